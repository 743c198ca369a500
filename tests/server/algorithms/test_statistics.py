"""Moments of observations and PopArt in algorithms: when they change, what they leave as it was, what is restored."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seedbed.common.errors import UsageError
from seedbed.server.algorithms.a3c import A2C, A3C
from seedbed.server.algorithms.actor_critic import ActorCriticAlgorithm
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.ppo import PPO
from seedbed.server.algorithms.q_learning import OneStepQ, QLearningOptions
from seedbed.server.algorithms.task_losses import VALUE_TARGETS
from seedbed.server.algorithms.vtrace import VTrace
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.inference.parameters import acting_copy
from seedbed.server.learning.learner import Learner
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.learnt import Learnt
from seedbed.server.networks.normaliser import Normalisers
from seedbed.server.networks.value_head import ValueHead
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from tests.reference.acting import CPU, World
from tests.reference.rounds import RoundWorld

PLAIN = NetworkConfig(torso="mlp", core="none", frame_stack=1, precision="float32")
NORMALISED = dataclasses.replace(PLAIN, normalise_observations="on")
STILL = OptimiserConfig(learning_rate=0.0)


def world_of(
    algorithm: type[ActorCriticAlgorithm],
    *,
    network: NetworkConfig = NORMALISED,
    optimiser: OptimiserConfig | None = None,
    **options: Any,
) -> World:
    return World(network, make=algorithm, options=algorithm.Options(**options), optimiser=optimiser)


def recorded(world: World) -> list[TrainBatch]:
    world.run(60)
    batches = world.batches()
    assert any(not batch.valid.all() for batch in batches)
    return batches


def of_version(batch: TrainBatch, version: int) -> TrainBatch:
    versions = torch.full_like(batch.fields["policy_version"], version)
    return dataclasses.replace(batch, fields={**batch.fields, "policy_version": versions})


def learnt_of(learner: Learner) -> Learnt:
    assert isinstance(learner.learnt, Learnt)
    return learner.learnt


def normalisers_of(learner: Learner) -> Normalisers:
    (found,) = [module for module in learner.network.modules() if isinstance(module, Normalisers)]
    return found


def head_of(learner: Learner) -> ValueHead:
    assert isinstance(learner.network, ActorCritic)
    assert isinstance(learner.network.value, ValueHead)
    return learner.network.value


@pytest.mark.parametrize("make", [A2C, PPO])
def test_in_rounds_log_rho_stays_0_while_moments_are_merged(make: type[ActorCriticAlgorithm]) -> None:
    """At learning rate 0: what is merged before the steps of an update would be seen in their ratios."""
    world = RoundWorld(NORMALISED, make=make, options=make.Options(popart="on"), optimiser=STILL)
    found: list[dict[str, Tensor]] = []
    update = world.learner.update

    def noted(batch: TrainBatch, progress: float) -> Any:
        result = update(batch, progress)
        found.append(dict(result.metrics))
        return result

    world.learner.update = noted  # type: ignore[method-assign]
    world.join(3)
    with world.learning():
        for _ in range(3000):
            world.turn()
            if len(found) > 8:
                break
    assert len(found) > 8
    assert all(metrics["abs_log_rho_max"] < 1e-4 for metrics in found)
    assert sum(float(metrics["observation_shift"]) > 1e-3 for metrics in found) > 6, "and they were merged"
    assert float(normalisers_of(world.learner).active[0].mean.abs().max()) > 0


def test_with_a_queue_the_skew_is_lag_until_moments_are_frozen() -> None:
    world = world_of(VTrace, optimiser=STILL)
    batches = recorded(world)
    first, second = (world.learner.update(batch, 0.0).metrics for batch in batches[:2])
    assert first["abs_log_rho_max"] < 1e-4
    assert first["observation_shift"] > 1e-2
    assert second["abs_log_rho_max"] > 1e-3, "these rows were acted on before the first merge"
    moments = learnt_of(world.learner).observations
    assert moments is not None
    moments._limit = int(moments.count)
    before = copy.deepcopy(moments.state_dict())
    world.parameters.publish(world.learner.network, world.learner.num_updates)
    frozen = recorded(world)[-3:]
    for batch in frozen:
        metrics = world.learner.update(batch, 0.0).metrics
        assert metrics["abs_log_rho_max"] < 1e-4
        assert metrics["observation_shift"] == 0
    assert all(torch.equal(before[name], x) for name, x in moments.state_dict().items() if name != "shift")


def test_only_a_queue_freezes_and_only_a_replay_forgets() -> None:
    def of(make: type[Algorithm]) -> tuple[int | None, bool]:
        world = World(NORMALISED, make=make, options=make.Options())
        moments = learnt_of(world.learner).observations
        assert moments is not None
        return moments._limit, moments._freezes

    assert of(VTrace) == (1_000_000, True)
    assert of(A2C) == (None, False)
    replayed = type("Replayed", (A2C,), {"regime": "replay"})
    assert of(replayed) == (1_000_000, False)


def test_ppo_merges_each_transition_once() -> None:
    """Three epochs of two minibatches, but the moments of one train batch."""
    world = world_of(PPO, epochs=3, minibatches=2, popart="on")
    learnt = learnt_of(world.learner)
    assert learnt.observations is not None
    assert learnt.values is not None
    batch = recorded(world)[0]
    (rows,) = (array[:-1, :, -1][batch.valid].double() for array in batch.observations)
    assert isinstance(world.algorithm, PPO)
    part = next(world.algorithm.minibatches(world.learner.learnt, batch))
    assert part is not None
    targets = torch.cat(
        [
            part.fields["value_target"][part.valid]
            for part in world.algorithm.minibatches(world.learner.learnt, batch)
            if part is not None
        ][:2]
    ).double()
    spread = part.fields["value_spread"]
    given: dict[str, Tensor] = {}
    after_update = world.algorithm.after_update

    def noted(learnt: nn.Module, moments: Mapping[str, Tensor]) -> None:
        given.update(moments)
        after_update(learnt, moments)

    world.algorithm.after_update = noted  # type: ignore[method-assign]
    world.learner.update(batch, 0.0)
    assert int(given[VALUE_TARGETS][0]) == int(batch.valid.sum())
    assert int(learnt.observations.count) == int(batch.valid.sum())
    torch.testing.assert_close(learnt.observations.mean, rows.mean(0))
    assert len(targets) == int(batch.valid.sum())
    torch.testing.assert_close(learnt.values.mean, targets.mean()[None])
    torch.testing.assert_close(learnt.values.scale().spread, targets.std(correction=0)[None])
    torch.testing.assert_close(spread, learnt.values.scale().spread.float().expand_as(spread)), "known before the steps"


@pytest.mark.parametrize("make", [VTrace, A2C, A3C, PPO])
def test_no_value_changes_by_statistics(make: type[ActorCriticAlgorithm]) -> None:
    """V of every row, and so every target and advantage, at learning rate 0 and under any number of updates."""
    few = {"epochs": 1, "minibatches": 1} if make is PPO else {}
    world = world_of(make, network=PLAIN, optimiser=STILL, popart="on", **few)
    batches = recorded(world)
    algorithm = world.algorithm
    assert isinstance(algorithm, ActorCriticAlgorithm)

    def values() -> Tensor:
        return torch.stack([algorithm.see(world.learner.network, batch).values.detach() for batch in batches])

    before = values()
    scales = set()
    for version in range(60):
        batch = batches[version % len(batches)]
        rewards = batch.fields["reward"] * (1 + version) + version
        fields = {**of_version(batch, version).fields, "reward": rewards}
        world.learner.update(dataclasses.replace(batch, fields=fields), 0.0)
        scales.add(float(head_of(world.learner).spread))
        torch.testing.assert_close(values(), before, rtol=1e-5, atol=1e-5)
    assert len(scales) == 60


def test_policy_and_its_step_do_not_depend_on_the_unit_of_rewards() -> None:
    """The gradient of the loss with respect to the policy's head, where rewards and values are in another unit."""

    def gradient(unit: float) -> Tensor:
        world = world_of(VTrace, network=PLAIN, popart="on", entropy_cost=0.0)
        world.algorithm._learning = dataclasses.replace(world.algorithm._learning, reward_clipping="none")
        batch = recorded(world)[0]
        head = head_of(world.learner)
        with torch.no_grad():
            head.weight.mul_(unit)
            head.bias.mul_(unit)
        fields = {**batch.fields, "reward": batch.fields["reward"] * unit}
        (step,) = world.algorithm.steps(world.learner.learnt, None, dataclasses.replace(batch, fields=fields))
        assert step.loss is not None
        step.loss.backward()
        assert isinstance(world.learner.network, ActorCritic)
        found = world.learner.network.policy.weight.grad
        assert found is not None
        assert float(step.metrics["baseline_loss"]) < 5
        return found

    torch.testing.assert_close(gradient(1.0), gradient(1000.0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("make", [VTrace, PPO])
def test_statistics_are_restored_with_the_weights(make: type[ActorCriticAlgorithm]) -> None:
    config = OptimiserConfig(learning_rate=1e-3)
    world = world_of(make, optimiser=config, popart="on")
    batches = recorded(world)
    for version in range(3):
        world.learner.update(of_version(batches[version], version), 0.0)
    torch.manual_seed(99)
    restored = Learner(world.algorithm, config, CPU)
    restored.set_state(copy.deepcopy(world.learner.get_state()))
    started = Learner(world.algorithm, config, CPU)
    started.take_weights(copy.deepcopy(world.learner.get_state()["learnt"]), "runs/x")
    assert learnt_of(started).observations.count > 0, "of another run's weights, too"  # type: ignore[union-attr]
    for version in range(3, 5):
        results = []
        for learner in (world.learner, restored):
            torch.manual_seed(version)
            results.append(learner.update(of_version(batches[version], version), 0.0).metrics)
        assert results[0] == results[1]
    ours, theirs = (learner.learnt.state_dict() for learner in (world.learner, restored))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {"observations.count", "values.mean", "network.value.spread"} <= set(ours)


def test_what_acts_has_the_statistics_of_its_version_and_no_accumulators() -> None:
    world = world_of(VTrace, optimiser=OptimiserConfig(learning_rate=1e-2), popart="on")
    for batch in recorded(world)[:3]:
        world.learner.update(batch, 0.0)
        world.parameters.publish(world.learner.network, world.learner.num_updates)
        acting, version = world.parameters.acquire()
        assert version == world.learner.num_updates
        ours, theirs = world.learner.network.state_dict(), acting.state_dict()
        assert list(ours) == list(theirs)
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-6, atol=1e-6)
            assert value.dtype == torch.float32
    network = acting_copy(world.learner.network)
    assert isinstance(network, ActorCritic)
    assert isinstance(network.value, ValueHead)
    assert network.value.spread != 1


def test_a_target_network_reads_with_moments_of_its_own_time() -> None:
    world = World(NORMALISED, make=OneStepQ, options=QLearningOptions(target_period_updates=2), optimiser=STILL)
    batch = recorded(world)[0]
    means = []
    for _ in range(2):
        world.learner.update(batch, 0.0)
        assert world.learner.target is not None
        target = world.algorithm.acting(world.learner.target)
        (normalisers,) = [module for module in target.modules() if isinstance(module, Normalisers)]
        means.append(normalisers.active[0].mean.clone())
    assert not means[0].any()
    assert torch.equal(means[1], normalisers_of(world.learner).active[0].mean)


def test_an_algorithm_that_keeps_no_moments_says_so() -> None:
    class Forgetful(A2C):
        def with_statistics(self, network: Any, values: Any = None, risk: Any = None, shares: Any = None) -> Any:
            return network

    with pytest.raises(UsageError, match="expected --normalise-observations off"):
        world_of(Forgetful)


def test_without_statistics_what_is_learnt_is_the_network_alone() -> None:
    learner = world_of(VTrace, network=PLAIN).learner
    assert learner.learnt is learner.network
    assert type(learner.network.value) is torch.nn.Linear
    assert not any("normalisers" in name for name, _ in learner.network.named_buffers())
