"""A2C, A3C and PPO: what they share with V-trace, and where they differ, on batches recorded by a real policy."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.server.algorithms.a3c import A2C, A3C
from seedbed.server.algorithms.actor_critic import ActorCriticAlgorithm
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.ppo import PPO, normals_of
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.algorithms.vtrace import VTrace
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.learning.learner import Learner
from seedbed.server.losses.ppo import normalise
from seedbed.server.networks.interface import PolicyNetwork
from seedbed.server.networks.value_head import Scale, sums_of
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from tests.reference.acting import CPU, World
from tests.reference.returns import n_step_returns
from tests.reference.vtrace import gae

LSTM = NetworkConfig(torso="mlp", core="lstm", core_size=16, frame_stack=1, precision="float32")


def world_of(algorithm: type[ActorCriticAlgorithm], **options: Any) -> World:
    """A world whose learner has not been trained."""
    return World(LSTM, make=algorithm, options=algorithm.Options(**options))


def recorded(world: World, publish_every: int = 0) -> list[TrainBatch]:
    world.run(60, publish_every=publish_every)
    batches = world.batches()
    assert len(batches) > 5
    assert any(not batch.valid.all() for batch in batches)
    return batches


def gradients(algorithm: Algorithm, network: PolicyNetwork, batch: TrainBatch) -> Tensor:
    network.zero_grad()
    (step,) = algorithm.steps(network, None, batch)
    return gradient_of(network, step)


def gradient_of(network: PolicyNetwork, step: Step) -> Tensor:
    assert step.loss is not None
    step.loss.backward()
    return torch.cat([x.grad.flatten() for x in network.parameters() if x.grad is not None])


@pytest.mark.parametrize("lambda_", [1.0, 0.9])
def test_on_policy_vtrace_is_advantage_actor_critic(lambda_: float) -> None:
    """The same gradient: with pi = mu every rho is 1, and with the mixed advantage at any lambda."""
    world = world_of(A3C, lambda_=lambda_, reduction="mean")
    ours = world.algorithm
    theirs = world_of(VTrace, advantage="rlax", lambda_=lambda_).algorithm
    for batch in recorded(world):
        expected = gradients(theirs, world.learner.network, batch)
        torch.testing.assert_close(gradients(ours, world.learner.network, batch), expected, rtol=1e-3, atol=1e-5)


def test_with_lag_they_differ() -> None:
    world = world_of(A3C, reduction="mean")
    theirs = world_of(VTrace).algorithm
    ours = world.algorithm
    network = world.learner.network
    batches = recorded(world, publish_every=7)
    assert not any(
        torch.allclose(gradients(ours, network, batch), gradients(theirs, network, batch), rtol=1e-2)
        for batch in batches[:-3]
    )


def test_targets_are_the_returns_of_the_paper() -> None:
    world = world_of(A2C)
    assert isinstance(world.algorithm, ActorCriticAlgorithm)
    for batch in recorded(world):
        seen = world.algorithm.see(world.learner.network, batch)
        targets = world.algorithm.targets(seen, batch)
        values = seen.values.detach()
        columns = (seen.rewards, seen.discounts, values, seen.valid)
        for b in range(batch.valid.shape[1]):
            for t, wanted in enumerate(n_step_returns(*(column[:, b].tolist() for column in columns))):
                if wanted is not None:
                    assert float(targets.values[t, b]) == pytest.approx(wanted, abs=1e-5)
                    assert float(targets.advantages[t, b]) == pytest.approx(wanted - float(values[t, b]), abs=1e-5)


def test_a_learner_in_rounds_refuses_what_other_parameters_did() -> None:
    world = world_of(A2C)
    batches = recorded(world)
    world.learner.update(batches[0], 0.0)
    with pytest.raises(RuntimeError, match=r"expected a batch that version 1 acted, got versions \[0\]"):
        world.learner.update(batches[1], 0.0)
    asynchronous = world_of(A3C)
    for batch in recorded(asynchronous):
        asynchronous.learner.update(batch, 0.0)


def test_one_row_of_another_version_is_enough() -> None:
    world = world_of(A2C)
    batch = recorded(world)[0]
    version = batch.fields["policy_version"].clone()
    t, b = batch.valid.nonzero()[3].tolist()
    version[t, b] = 5
    with pytest.raises(RuntimeError, match=r"got versions \[0, 5\]"):
        world.learner.update(dataclasses.replace(batch, fields={**batch.fields, "policy_version": version}), 0.0)


def parts_of(world: World, batch: TrainBatch) -> list[TrainBatch]:
    assert isinstance(world.algorithm, PPO)
    return [part for part in world.algorithm.minibatches(world.learner.network, batch) if part is not None]


def test_ppo_goes_over_every_unroll_once_an_epoch() -> None:
    world = world_of(PPO, epochs=3, minibatches=2)
    batch = recorded(world)[0]
    parts = parts_of(world, batch)
    assert [len(part.provenance) for part in parts] == [2] * 6
    orders = [(*parts[i].provenance, *parts[i + 1].provenance) for i in (0, 2, 4)]
    assert all(set(order) == set(batch.provenance) for order in orders)
    assert len(set(orders)) > 1, "in another order"
    for part in parts:
        for b, source in enumerate(part.provenance):
            original = batch.provenance.index(source)
            assert torch.equal(part.observations[0][:, b], batch.observations[0][:, original])
            assert torch.equal(part.state[0][b], batch.state[0][original])
            assert torch.equal(part.valid[:, b], batch.valid[:, original])
            assert torch.equal(part.fields["behaviour"][:, b], batch.fields["behaviour"][:, original])


@pytest.mark.parametrize(("minibatches", "sizes"), [(9, [1, 1, 1, 1]), (3, [2, 1, 1])])
def test_a_round_of_any_size_keeps_to_the_plan(minibatches: int, sizes: list[int]) -> None:
    """Fewer unrolls than minibatches leave some without rows: those steps are not made."""
    world = world_of(PPO, epochs=1, minibatches=minibatches)
    batch = recorded(world)[0]
    assert [len(part.provenance) for part in parts_of(world, batch)] == sizes
    assert world.algorithm.plan(0) == ("all",) * minibatches
    update = world.learner.update(batch, 0.0)
    assert world.learner.optimiser_steps == len(sizes)
    assert sum(map(int, update.weights)) == batch.valid.sum()
    assert len(update.weights) == minibatches


def test_ppo_keeps_the_targets_of_the_parameters_that_acted() -> None:
    """GAE of the first parameters, though the network changes while the minibatches are drawn."""
    world = world_of(PPO, lambda_=0.9)
    algorithm, network = world.algorithm, world.learner.network
    assert isinstance(algorithm, PPO)
    batch = recorded(world)[0]
    learnt = algorithm.see(copy.deepcopy(network), batch)
    expected = torch.from_numpy(
        gae(
            rewards=learnt.rewards.double().numpy(),
            discounts=learnt.discounts.double().numpy(),
            values=learnt.values.detach().double().numpy(),
            valid=learnt.valid.numpy(),
            lambda_=0.9,
        )
    )
    for part in algorithm.minibatches(network, batch):
        assert part is not None
        for b, source in enumerate(part.provenance):
            original, valid = batch.provenance.index(source), part.valid[:, b]
            torch.testing.assert_close(
                part.fields["advantage"][:, b].double()[valid], expected[:, original][valid], atol=1e-4, rtol=1e-4
            )
        world.scramble(network)


def test_an_update_of_ppo_is_many_steps_with_one_summary() -> None:
    world = world_of(PPO, epochs=3, minibatches=2)
    batches = recorded(world)
    before = [x.detach().clone() for x in world.learner.network.parameters()]
    metrics = world.learner.update(batches[0], 0.0).metrics
    assert (world.learner.num_updates, world.learner.optimiser_steps) == (1, 6)
    assert (metrics["policy_lag_mean"], metrics["policy_lag_max"]) == (0, 0), "in updates"
    assert metrics["abs_log_rho_max"] > 0
    assert all(metric.dim() == 0 for metric in metrics.values())
    assert any(not torch.equal(x, y) for x, y in zip(before, world.learner.network.parameters(), strict=True))
    versions = torch.ones_like(batches[1].fields["policy_version"])
    next_round = dataclasses.replace(batches[1], fields={**batches[1].fields, "policy_version": versions})
    world.learner.update(next_round, 0.0)
    assert (world.learner.num_updates, world.learner.optimiser_steps) == (2, 12)


def test_ppo_with_one_epoch_of_one_minibatch_is_a2c_with_normalised_advantages() -> None:
    world = world_of(PPO, epochs=1, minibatches=1, lambda_=1.0)
    a2c = world_of(A2C).algorithm
    assert isinstance(a2c, A2C)
    assert isinstance(world.algorithm, PPO)
    network = world.learner.network
    (part,) = parts_of(world, recorded(world)[0])
    network.zero_grad()
    ours = gradient_of(network, world.algorithm.step(network, part))
    seen = a2c.see(network, part)
    targets = a2c.targets(seen, part)
    kept = targets.advantages[part.valid]
    advantages = (targets.advantages - kept.mean()) / kept.std(correction=0)
    a2c.targets = lambda seen, batch: targets._replace(advantages=advantages)  # type: ignore[method-assign]
    torch.testing.assert_close(ours, gradients(a2c, network, part), rtol=1e-3, atol=1e-5)


def test_all_of_them_learn_the_same_kind_of_network() -> None:
    """So a checkpoint of one can be looked at by the others, and the recorded fields are the same."""
    worlds = [world_of(algorithm) for algorithm in (A2C, A3C, PPO)]
    keys = [list(Learner(world.algorithm, OptimiserConfig(), CPU).network.state_dict()) for world in worlds]
    assert keys[0] == keys[1] == keys[2]
    assert all(set(world.algorithm.recorded) == {"behaviour"} for world in worlds)
    assert [world.algorithm.regime for world in worlds] == ["rounds", "queue", "rounds"]


@pytest.mark.parametrize("algorithm", [A2C, A3C, PPO, VTrace])
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("popart_rate", 0.0, r"--popart-rate in \(0, 1\], got 0.0"),  # moments would be 0 / 0
        ("popart_rate", 2.0, r"--popart-rate in \(0, 1\], got 2.0"),
        ("lambda_", 1.5, "--lambda between 0 and 1, got 1.5"),
    ],
)
def test_what_makes_no_sense_is_refused(
    algorithm: type[ActorCriticAlgorithm], name: str, value: float, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        algorithm.Options(**{name: value})


def test_moments_of_two_halves_normalise_as_the_whole_does() -> None:
    """Advantages of two tasks with spreads of their own, in two learners' rows: counts, sums and squares are enough."""
    generator = torch.Generator().manual_seed(1)
    advantages = 5 + 3 * torch.randn(6, 8, generator=generator)
    valid, task = torch.rand(6, 8, generator=generator) < 0.7, torch.randint(2, (6, 8), generator=generator)
    scale = Scale(torch.zeros(2, dtype=torch.float64), torch.tensor([0.5, 20.0], dtype=torch.float64))
    sums = sum(sums_of(advantages[:, half], valid[:, half], task[:, half], 2) for half in (slice(3), slice(3, 8)))
    assert isinstance(sums, torch.Tensor)
    ((mean, deviation),) = normals_of(sums[None], scale)
    scaled = advantages / scale.spread.float()[task]
    found = torch.where(valid, (scaled - mean) / (deviation + 1e-8), 0.0)
    torch.testing.assert_close(found, normalise(scaled, valid), rtol=1e-5, atol=1e-6)
