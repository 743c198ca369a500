"""TD3: noise of its targets, how often its policy moves, its target policy, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from seedbed.common.errors import SpecError
from seedbed.common.options import override
from seedbed.common.specs import discrete
from seedbed.server.algorithms.acting import Acting
from seedbed.server.algorithms.td3 import TD3, TD3Options, smoothed
from seedbed.server.learning.learner import Learner
from seedbed.server.networks.soft import ActorAndCritics
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.training.recording import record
from seedbed.server.training.resolve import defaults_of
from tests.reference.acting import CPU
from tests.server.algorithms.test_sac import FLAT, LSTM, SPACES, rows, spec_of


def made(spec: Any, network: Any = FLAT, **options: Any) -> TD3:
    config = override(defaults_of("td3"), {"learning.unroll_length": 6, "learning.discount": 0.9})
    own = replace(TD3Options(hidden_size=16, random_steps=0), **options)
    return TD3(replace(config, network=network, algorithm_options=own), spec)


def test_noise_of_targets_stays_in_the_box() -> None:
    action, noise = torch.tensor([0.9, -0.2]), torch.tensor([0.3, -0.9]).clamp(-0.5, 0.5)
    torch.testing.assert_close(smoothed(action, noise), torch.tensor([1.0, -0.7]))


@pytest.mark.parametrize("network", [FLAT, LSTM], ids=["flat", "lstm"])
@pytest.mark.parametrize("name", ["box", "boxes"])
def test_the_policy_moves_in_every_second_update(name: str, network: Any) -> None:
    spec = spec_of(SPACES[name])
    algorithm = made(spec, network)
    torch.manual_seed(0)
    learner = Learner(algorithm, OptimiserConfig(learning_rate=1e-2, final_learning_rate_share=1.0), CPU)
    batch, (learnt, target) = record(algorithm, learner.network, spec), (learner.learnt, learner.target)
    assert isinstance(learnt, ActorAndCritics)
    assert isinstance(target, ActorAndCritics)
    first = [p.detach().clone() for p in learnt.policy.own_parameters()]
    assert "actor_loss" not in learner.update(batch, 0.0).metrics
    assert all(torch.equal(x, y) for x, y in zip(first, learnt.policy.own_parameters(), strict=True))
    metrics = learner.update(batch, 0.0).metrics
    assert metrics["actor_loss"].isfinite()
    moved = zip(first, learnt.policy.own_parameters(), target.policy.own_parameters(), strict=True)
    for before, now, behind in moved:
        assert not torch.equal(before, now)
        torch.testing.assert_close(behind, before + 0.0025 * (now - before), msg="a target policy too")


def test_it_explores_by_noise_on_its_own_action() -> None:
    spec = spec_of()
    algorithm = made(spec)
    network = algorithm.make_learnt().policy.requires_grad_(False)
    greedy = torch.arange(4000) >= 3999
    acting = Acting(torch.arange(4000), torch.Generator().manual_seed(0), 0, greedy)
    (sent,) = algorithm.act(network, rows(spec), (), acting).sent
    mean = network.outputs(torch.ones(1, 3)).tanh()
    torch.testing.assert_close(sent[-1:], mean)
    assert (sent[:-1].mean(0) - mean).abs().max() < 0.01
    assert float(sent[:-1].std(0).mean()) == pytest.approx(0.1, abs=0.01)


def test_other_actions_are_refused_by_name() -> None:
    with pytest.raises(
        SpecError, match=r"--algorithm td3 expects boxes alone, got 'action'.*; take one of .*ppo, .*r2d2"
    ):
        made(spec_of((discrete("action", 3),)))
    assert TD3.suits(spec_of(SPACES["discrete"])) is None
