"""What algorithms show to people: only where it is asked for, the policy or the Q-values that acted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seedbed.common.array_spec import action_mask
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.registry import ALGORITHMS, find_algorithm
from seedbed.server.dashboard.policy_numbers import numbers_of
from seedbed.server.networks.interface import Inputs
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.resolve import resolve
from tests.server.algorithms.test_action_spaces import SPACES

ROWS = 5


def decide(name: str, actions: tuple[ArraySpec, ...], *, watched: bool, mask: torch.Tensor | None = None) -> Decision:
    """The answer of a fresh policy to random rows."""
    shown = (ArraySpec(name="observation", dtype="float32", shape=(3,)),)
    entries = 0 if mask is None else mask.shape[1]
    masks = [action_mask(actions)] if entries else []
    spec = EnvironmentSpec(environment="x", observations=(*shown, *masks), actions=actions)
    config = resolve(read_command_line(["--env", "x", "--algorithm", name], prog="test"), spec)
    torch.manual_seed(0)
    algorithm = find_algorithm(name)(config, spec)
    network = algorithm.acting(algorithm.make_learnt())
    dtypes = [torch.float32 if action.kind == "box" else torch.int64 for action in actions]
    last = tuple(torch.zeros(ROWS, *action.shape, dtype=dtype) for action, dtype in zip(actions, dtypes, strict=True))
    inputs: Any = Inputs((torch.randn(ROWS, 1, 3),), torch.ones(ROWS, dtype=torch.uint8), torch.zeros(ROWS), last, mask)
    acting = Acting(torch.arange(ROWS), torch.Generator().manual_seed(1), 10_000, None, watched)
    with torch.inference_mode():
        return algorithm.act(network, inputs, network.initial_state(ROWS), acting)


def spec_of(actions: tuple[ArraySpec, ...]) -> EnvironmentSpec:
    return EnvironmentSpec(
        environment="x", observations=(ArraySpec(name="observation", dtype="float32", shape=(3,)),), actions=actions
    )


def cases() -> list[tuple[str, str]]:
    found = []
    for name in ALGORITHMS:
        for space, actions in SPACES.items():
            spec = EnvironmentSpec(
                environment="x", observations=(ArraySpec(name="o", dtype="float32"),), actions=actions
            )
            if find_algorithm(name).suits(spec) is not None:
                found.append((name, space))
    return found


@pytest.mark.parametrize(("name", "space"), cases())
def test_every_algorithm_shows_finite_numbers_where_it_is_watched(name: str, space: str) -> None:
    actions = SPACES[space]
    assert decide(name, actions, watched=False).shown is None
    shown = decide(name, actions, watched=True).shown
    assert shown is not None
    _, parts = numbers_of(spec_of(actions), find_algorithm(name).shows)
    assert shown["policy"].shape == (ROWS, sum(sum(part["sizes"]) for part in parts))  # so the page knows what is what
    assert shown["policy"].isfinite().all()
    assert "value" not in shown or shown["value"].shape == (ROWS,)
    unwatched, watched = (decide(name, actions, watched=look) for look in (False, True))
    for before, after in zip(unwatched.actions, watched.actions, strict=True):
        assert torch.equal(before, after)  # to look changes nothing


@pytest.mark.parametrize("name", ["vtrace", "r2d2", "n_step_q"])
def test_what_a_mask_forbids_is_shown_as_nothing(name: str) -> None:
    mask = torch.tensor([[1, 0, 1]]).expand(ROWS, 3).to(torch.uint8)
    shown = decide(name, (discrete("action", 3),), watched=True, mask=mask).shown
    assert shown is not None
    forbidden = shown["policy"][:, 1]
    assert (forbidden == (0 if name == "vtrace" else -torch.inf)).all()
    if name == "vtrace":
        assert torch.allclose(shown["policy"].sum(-1), torch.ones(ROWS))
    else:
        assert torch.equal(shown["value"], shown["policy"].amax(-1))
