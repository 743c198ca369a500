"""Observations of every kind through slots, unrolls and learner: what is learnt from is what was acted on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import Inputs
from seedbed.server.options.network import NetworkConfig
from tests.reference.acting import NUM_ACTIONS, World


def box(name: str, *shape: int, dtype: str = "uint8", low: float = 0, high: float = 255) -> ArraySpec:
    return ArraySpec(name=name, dtype=dtype, shape=shape, low=(low,), high=(high,))


SCREEN, STATE = box("/screen", 36, 40), box("/state", 3, dtype="float32", low=-math.inf, high=math.inf)
SHOWN: dict[str, tuple[ArraySpec, ...]] = {
    "screen and state": (SCREEN, STATE),
    "frozen lake": (discrete("observation", 16),),
    "categories": (box("observation", 9, 9, 3),),
    "channels first": (box("observation", 3, 36, 40),),
    "frames first": (box("observation", 4, 20, 24),),
    "every kind": (
        box("[0]", 16, 17),
        STATE,
        discrete("[2]", 100, start=3),
        ArraySpec(name="[3]", dtype="uint8", shape=(3,), low=(0,), high=(1,), kind="binary"),
        ArraySpec(name="[4]", dtype="int64", shape=(2,), low=(1,), high=(4, 70), kind="discrete"),
        box("[5]", 4, dtype="int32", low=-5, high=5),
    ),
}


def world_of(shown: tuple[ArraySpec, ...]) -> World:
    spec = EnvironmentSpec(environment="any", observations=shown, actions=(discrete("action", NUM_ACTIONS),))
    return World(NetworkConfig(precision="float32"), spec=spec)


@pytest.mark.parametrize("shown", SHOWN.values(), ids=list(SHOWN))
def test_the_learner_sees_what_was_acted_on_and_computes_the_same(shown: tuple[ArraySpec, ...]) -> None:
    world = world_of(shown)
    assert world.layout.frame_stacks == tuple(4 if len(spec.shape) == 2 else 1 for spec in shown)
    world.run(50)
    batches = world.batches()
    assert batches
    for batch in batches:
        with torch.no_grad():
            policy = world.learner.network.unroll(batch_inputs(batch), batch.state)[0].policy
        mine, theirs = (logits.log_softmax(-1)[:-1][batch.valid] for logits in (policy, batch.fields["behaviour"]))
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)
        assert mine.std(0).max() > 0.05, "policies that hardly differ from row to row would prove nothing"
    assert torch.isfinite(world.learner.update(batches[0], 0.0).metrics["loss"])


def rows_of(observations: tuple[Tensor, ...]) -> Inputs:
    count = len(observations[0])
    nothing = torch.zeros(count, dtype=torch.int64)
    return Inputs(observations, torch.ones(count, dtype=torch.uint8), torch.zeros(count), (nothing,))


def screen_and_state(count: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """Right is 1 where exactly one of the two, the screen's left half and the state's first number, is bright."""
    bright, positive = torch.randint(0, 2, (2, count))
    screen = torch.zeros(count, 4, 36, 40, dtype=torch.uint8)
    screen[..., :20] = (200 * bright)[:, None, None, None].to(torch.uint8)
    state = torch.randn(count, 1, 3)
    state[:, 0, 0] = positive * 2.0 - 1
    return (screen, state), bright ^ positive


def lake(count: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """Right is a function of the cell that no line through its number separates."""
    cell = torch.randint(0, 16, (count, 1))
    return (cell,), (cell[:, 0] * 7) % 5


def categories(count: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """Right is the third of the columns where the agent, a 10 on a floor of 1, stands in a space to 255."""
    grid = torch.ones(count, 1, 9, 9, 3, dtype=torch.uint8)
    row, column = torch.randint(0, 9, (2, count))
    grid[torch.arange(count), 0, row, column, 0] = 10
    return (grid,), column // 3


def channels_first(count: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """Right is the colour that is bright in the upper half."""
    colour = torch.randint(0, 3, (count,))
    image = torch.zeros(count, 1, 3, 36, 40, dtype=torch.uint8)
    image[torch.arange(count), 0, colour, :18] = 200
    return (image,), colour


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("screen and state", screen_and_state),
        ("frozen lake", lake),
        ("categories", categories),
        ("channels first", channels_first),
    ],
)
def test_every_kind_is_learnt_from(name: str, draw) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    network = ActorCritic(SHOWN[name], ActionSpace((discrete("action", NUM_ACTIONS),)), NetworkConfig())
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(150):
        observations, right = draw(32)
        outputs, _ = network.step(rows_of(observations), ())
        loss = torch.nn.functional.cross_entropy(outputs.policy, right)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    observations, right = draw(200)
    with torch.no_grad():
        outputs, _ = network.step(rows_of(observations), ())
    assert (outputs.policy.argmax(-1) == right).float().mean() > 0.9
