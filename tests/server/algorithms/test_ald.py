"""Actor-learner distillation: who learns from what, where it ends, and what acts."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.common.options import override
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.ald import ACTOR, ALD, LEARNER, ALDOptions, Pair, behind_burn_in, pair_of
from seedbed.server.algorithms.recent_unrolls import RecentUnrolls
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.networks.transformer import GTrXL
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from tests.reference.acting import World

NETWORK = NetworkConfig(torso="mlp", core="lstm", core_size=8, core_memory=5, frame_stack=1, precision="float32")


def world_of(network: NetworkConfig = NETWORK, learning_rate: float = 0.0, **options: Any) -> World:
    def made(config: ServerConfig, spec: EnvironmentSpec) -> ALD:
        return ALD(override(config, {"learning.unroll_length": 6}), spec)

    chosen = ALDOptions(**{"popart": "off", "distillation_steps": 2, **options})
    return World(network, make=made, options=chosen, optimiser=OptimiserConfig(learning_rate=learning_rate))


def recorded(world: World, turns: int = 100) -> list[TrainBatch]:
    world.run(turns)
    batches = world.batches()
    assert any(not batch.valid.all() for batch in batches)
    return batches


def pair(world: World) -> Pair:
    return pair_of(world.learner.learnt)


def steps(world: World, batch: TrainBatch) -> list[Step]:
    return list(world.algorithm.steps(world.learner.learnt, None, batch))


def gradients(loss: Tensor | None, module: torch.nn.Module) -> list[Tensor | None]:
    assert loss is not None
    return list(torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, retain_graph=True))


@pytest.mark.parametrize(("burn_in", "rows"), [(None, 12), (0, 7), (9, 16)])
def test_unrolls_have_rows_in_front_to_fill_memories(burn_in: int | None, rows: int) -> None:
    algorithm = world_of(burn_in=burn_in).algorithm
    assert (algorithm.num_rows, algorithm.period) == (rows, 6)
    assert algorithm.trained_rows == range(rows - 7, rows - 1)


def test_a_memory_of_the_learner_that_does_not_fit_its_heads_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected --core-heads that divide --learner-core-size 10, got 4"):
        world_of(learner_core_size=10)


def test_the_small_network_acts_and_is_all_that_is_published() -> None:
    world = world_of(learner_core_size=16)
    both = pair(world)
    assert world.learner.network is both.network
    assert isinstance(both.learner.body.core, GTrXL)
    assert both.learner.body.core.output_size == 16
    assert both.network.body.core.output_size == 8
    assert len(both.network.initial_state(1)) == 2  # no memory of the large one in inference
    saved = world.learner.get_state()["learnt"]
    assert {name.split(".")[0] for name in saved} == {"network", "learner"}


@pytest.mark.parametrize("burn_in", [5, pytest.param(0, marks=pytest.mark.slow)])
def test_with_learning_rate_0_the_actor_is_what_was_recorded(burn_in: int) -> None:
    """From the state that was stored, in the rows behind the burn-in, of unrolls drawn again too."""
    world = world_of(burn_in=burn_in)
    num_valid = 0
    for batch in recorded(world):
        metrics = world.learner.update(batch, 0.0).metrics
        assert metrics["actor_drift_max"] < 1e-4
        num_valid += int(batch.num_valid)
    assert num_valid > 100
    with torch.no_grad():
        pair(world).network.policy.weight[0].add_(0.5)
    assert world.learner.update(batch, 0.0).metrics["actor_drift_max"] > 1e-3


def test_reward_never_reaches_the_actor_and_distillation_never_the_learner() -> None:
    world = world_of()
    both = pair(world)
    learn, *distil = steps(world, recorded(world)[1])
    assert [step.group for step in (learn, *distil)] == [LEARNER, ACTOR, ACTOR] == list(world.algorithm.plan(0))
    assert all(gradient is None for gradient in gradients(learn.loss, both.network))
    assert any(gradient is not None and gradient.any() for gradient in gradients(learn.loss, both.learner))
    for step in distil:
        assert all(gradient is None for gradient in gradients(step.loss, both.learner))
        assert any(gradient is not None and gradient.any() for gradient in gradients(step.loss, both.network))


@pytest.mark.parametrize("num_steps", [1, 4])
def test_each_network_has_steps_of_its_own(num_steps: int) -> None:
    world = world_of(distillation_steps=num_steps, learning_rate=1e-3)
    batch = recorded(world)[0]
    before = copy.deepcopy(world.learner.learnt.state_dict())
    update = world.learner.update(batch, 0.0)
    assert world.learner.optimiser_steps == 1 + num_steps
    assert world.learner.num_updates == 1
    assert {"gradient_norm_learner", "gradient_norm_actor", "distillation_kl", "abs_log_rho_mean"} <= set(
        update.metrics
    )
    changed = {
        name.split(".")[0] for name, x in world.learner.learnt.state_dict().items() if not torch.equal(x, before[name])
    }
    assert changed == {"network", "learner"}


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(direction: str) -> None:
    """With the actor's memory like the learner's, and unrolls that begin with episodes: as without a burn-in."""
    world = world_of(dataclasses.replace(NETWORK, core="none"), distillation=direction, learner_core="lstm", burn_in=0)
    both = pair(world)
    both.learner = copy.deepcopy(both.network)
    step = steps(world, recorded(world)[0])[1]
    assert step.loss is not None
    assert abs(float(step.loss.detach())) < 1e-7
    for gradient in gradients(step.loss, both.network):
        assert gradient is None or gradient.abs().max() < 1e-7


def test_divergences_and_their_gradients_of_known_numbers() -> None:
    space = world_of().algorithm._space  # type: ignore[attr-defined]
    teacher = torch.tensor([2.0, 0.0, -1.0, -99.0, -99.0], dtype=torch.float64)
    student = torch.tensor([0.0, 1.0, 0.0, -99.0, -99.0], dtype=torch.float64, requires_grad=True)
    taught, learnt = space.distribution(teacher), space.distribution(student)
    assert float(learnt.kl(taught).detach()) == pytest.approx(0.98257663, abs=1e-7)
    assert float(taught.kl(learnt).detach()) == pytest.approx(0.91298290, abs=1e-7)
    (forward,) = torch.autograd.grad(taught.kl(space.distribution(student)), student)
    assert forward[:3].tolist() == pytest.approx([-0.631853, 0.461922, 0.169931], abs=1e-6)
    (reverse,) = torch.autograd.grad(space.distribution(student).kl(taught), student)
    assert reverse[:3].tolist() == pytest.approx([-0.501067, 0.366309, 0.134758], abs=1e-6)


def test_the_pull_of_the_actor_is_a_term_of_the_learner() -> None:
    plain, pulled = world_of(actor_pull=0.0), world_of(actor_pull=2.0)
    batch = recorded(plain)[0]
    pulled.learner.set_state(plain.learner.get_state())
    ours, theirs = (steps(world, batch)[0] for world in (plain, pulled))
    difference = float(theirs.metrics["loss"] - ours.metrics["loss"])
    assert difference == pytest.approx(2.0 * float(ours.metrics["kl_behaviour"]), rel=1e-4)
    assert difference > 0


def test_the_learner_begins_every_unroll_without_a_memory() -> None:
    """What it says depends on the rows of the unroll alone: not on the actor's state, and not on what was before."""
    world = world_of()
    batch = recorded(world)[2]
    algorithm = world.algorithm
    assert isinstance(algorithm, ALD)
    with torch.no_grad():
        ours = algorithm._taught(pair(world), batch)
        other = algorithm._taught(pair(world), dataclasses.replace(batch, state=tuple(x + 1 for x in batch.state)))
    assert torch.equal(ours.policy, other.policy)
    assert len(ours.policy) == 7
    window = behind_burn_in(batch)
    assert window.valid.shape[0] == 6
    assert torch.equal(window.fields["reward"], batch.fields["reward"][5:])


@pytest.mark.parametrize("popart", ["on", "off"])
def test_both_value_heads_have_one_unit(popart: str) -> None:
    world = world_of(popart=popart, learning_rate=1e-3, popart_rate=0.5)
    for batch in recorded(world)[:3]:
        world.learner.update(batch, 0.0)
    heads = (pair(world).network.value, pair(world).learner.value)
    if popart == "off":
        assert all(type(head) is torch.nn.Linear for head in heads)
        return
    ours, theirs = (dict(head.named_buffers()) for head in heads)
    assert torch.equal(ours["spread"], theirs["spread"])
    assert torch.equal(ours["mean"], theirs["mean"])
    assert ours["spread"] != 1


def test_it_is_restored_with_both_networks_and_optimisers() -> None:
    world, other = (
        world_of(learning_rate=1e-3, distillation_steps=1),
        world_of(learning_rate=1e-3, distillation_steps=1),
    )
    batches = recorded(world)
    for batch in batches[:3]:
        world.learner.update(batch, 0.0)
    other.learner.set_state(copy.deepcopy(world.learner.get_state()))
    for one in (world, other):
        one.learner.update(batches[3], 0.0)
    ours, theirs = world.learner.learnt.state_dict(), other.learner.learnt.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_recent_unrolls_are_the_newest_and_each_is_drawn_as_often() -> None:
    batches = recorded(world_of(), 140)
    assert len(batches) >= 5
    size = batches[0].valid.shape[1]
    recent = RecentUnrolls(3)
    numbers = iter(range(1000))
    for batch in batches[:5]:
        marked = {**batch.fields, "mark": torch.tensor([[next(numbers) for _ in range(size)]] * batch.valid.shape[0])}
        recent.add(dataclasses.replace(batch, fields=marked))
    assert len(recent) == 3 * size
    drawn = recent.draw(4000)
    counts = torch.bincount(drawn.fields["mark"][0], minlength=5 * size)
    assert not counts[: 2 * size].any()
    assert counts[2 * size :].float().std() < 0.15 * counts[2 * size :].float().mean()
    index = int(drawn.fields["mark"][0, 7])
    theirs, place = batches[index // size], index % size
    assert torch.equal(drawn.observations[0][:, 7], theirs.observations[0][:, place])
    assert torch.equal(drawn.state[1][7], theirs.state[1][place])
    assert torch.equal(drawn.valid[:, 7], theirs.valid[:, place])
    assert drawn.provenance[7] == theirs.provenance[place]
    small = RecentUnrolls(1)
    small.add(batches[0])
    assert len(small) == size
