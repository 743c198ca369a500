"""Actor-critics with a bound on the variance of rewards: what is learnt from, counted, restored, and left alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from seedbed.common.errors import UsageError
from seedbed.common.options import override
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.server.algorithms.a3c import A2C, A3C
from seedbed.server.algorithms.actor_critic import ActorCriticAlgorithm
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.ppo import PPO
from seedbed.server.algorithms.risk import REWARDS
from seedbed.server.algorithms.vtrace import VTrace
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.networks.learnt import Learnt
from seedbed.server.networks.risk import RiskBound
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.options.risk import RiskConfig
from tests.reference.acting import VECTOR, World

PLAIN = NetworkConfig(torso="mlp", core="none", frame_stack=1, precision="float32")
BOUND = RiskConfig(risk_variance=0.5, risk_multiplier_rate=0.1)


def world_of(make: type[ActorCriticAlgorithm], risk: RiskConfig = BOUND, **options: Any) -> World:
    def made(config: ServerConfig, spec: EnvironmentSpec) -> Algorithm:
        return make(override(config, {"learning.reward_clipping": "none"}), spec)

    chosen = make.Options(risk=risk, **options)
    return World(PLAIN, make=made, options=chosen, optimiser=OptimiserConfig(learning_rate=0.0))


def recorded(world: World) -> list[TrainBatch]:
    world.run(60)
    batches = world.batches()
    assert any(not batch.valid.all() for batch in batches)
    return batches


def bound_of(world: World) -> RiskBound:
    learnt = world.learner.learnt
    assert isinstance(learnt, Learnt)
    assert learnt.risk is not None
    return learnt.risk


def family(world: World) -> ActorCriticAlgorithm:
    assert isinstance(world.algorithm, ActorCriticAlgorithm)
    return world.algorithm


@pytest.mark.parametrize("make", [VTrace, A2C, A3C, PPO])
def test_it_learns_from_adjusted_rewards_and_counts_each_raw_one_once(make: type[ActorCriticAlgorithm]) -> None:
    several: dict[str, Any] = {"epochs": 3, "minibatches": 2} if make is PPO else {}
    world = world_of(make, **several)
    batch = recorded(world)[0]
    rewards = batch.fields["reward"][1:][batch.valid].double()
    given: dict[str, torch.Tensor] = {}
    after_update = world.algorithm.after_update

    def noted(learnt: torch.nn.Module, moments: Any) -> None:
        given.update(moments)
        after_update(learnt, moments)

    world.algorithm.after_update = noted  # type: ignore[method-assign]
    metrics = world.learner.update(batch, 0.0).metrics
    torch.testing.assert_close(
        given[REWARDS], torch.stack((torch.tensor(float(len(rewards))).double(), rewards.sum(), rewards.square().sum()))
    )
    assert float(metrics["reward_mean"]) == pytest.approx(float(rewards.mean()))
    assert float(metrics["reward_variance"]) == pytest.approx(float(rewards.var(correction=0)), rel=1e-4)
    assert float(metrics["risk_dual"]) == pytest.approx(float(rewards.mean()))
    excess = float(rewards.var(correction=0)) - 0.5
    assert float(metrics["risk_multiplier"]) == pytest.approx(max(0.0, 0.1 * excess))

    risk = bound_of(world)
    risk.multiplier.fill_(0.3)
    seen = family(world).see(world.learner.learnt, batch)
    raw = batch.fields["reward"][1:]
    assert set(world.algorithm.no_moments(world.learner.learnt)) >= {REWARDS}, "a learner without rows adds none"
    average = (1 + 0.6 * risk.dual) * risk.mean - 0.3 * risk.second
    expected = (1 + 0.6 * risk.dual) * raw - 0.3 * raw.square() - average
    torch.testing.assert_close(seen.rewards[batch.valid], expected[batch.valid].float())


def test_with_learning_rate_0_the_learner_still_agrees_with_what_acted() -> None:
    world = world_of(VTrace)
    for batch in recorded(world):
        assert world.learner.update(batch, 0.0).metrics["abs_log_rho_max"] < 1e-4
    assert float(bound_of(world).multiplier) > 0


def test_its_state_is_restored_and_what_acts_has_none_of_it() -> None:
    world, other = world_of(VTrace), world_of(VTrace)
    batches = recorded(world)
    for batch in batches[:4]:
        world.learner.update(batch, 0.0)
    assert not any("risk" in name for name in world.learner.network.state_dict())
    other.learner.set_state(copy.deepcopy(world.learner.get_state()))
    for name, buffer in bound_of(world).named_buffers():
        assert torch.equal(buffer, dict(bound_of(other).named_buffers())[name]), name
    ours, theirs = (one.learner.update(batches[4], 0.0).metrics for one in (world, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_without_a_bound_nothing_is_there() -> None:
    world = world_of(VTrace, RiskConfig())
    assert world.learner.learnt is world.learner.network
    metrics = world.learner.update(recorded(world)[0], 0.0).metrics
    assert not any(name.startswith(("risk", "reward_")) for name in metrics)


def test_squashed_rewards_and_energies_of_boxes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"expected --reward-clipping none with --risk-variance 0.5, got abs_one"):
        World(PLAIN, make=VTrace, options=VTrace.Options(risk=BOUND))
    box = ArraySpec(name="action", dtype="float32", shape=(2,), low=(-1.0,), high=(1.0,))
    spec = EnvironmentSpec(environment="a", observations=(VECTOR,), actions=(box,))
    with pytest.raises(
        UsageError, match="expected one discrete action with --policy-step energy, got 'action' float32"
    ):
        World(PLAIN, make=PPO, options=PPO.Options(policy_step="energy"), spec=spec)
    with pytest.raises(UsageError, match="expected --energy-step of more than 0, got 0"):
        PPO.Options(energy_step=0.0)
    with pytest.raises(UsageError, match="expected --temperature of at least 0, got -1"):
        PPO.Options(temperature=-1.0)
