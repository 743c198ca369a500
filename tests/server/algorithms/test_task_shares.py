"""Shares of tasks that are kept: by weights of the loss, whose sum over a batch is what it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from seedbed.common.joint_spec import join
from seedbed.server.algorithms.actor_critic import ActorCriticAlgorithm
from seedbed.server.algorithms.ppo import PPO
from seedbed.server.algorithms.vtrace import VTrace
from seedbed.server.experience.unroll import TASK
from seedbed.server.networks.learnt import Learnt
from seedbed.server.networks.task_shares import LARGEST_WEIGHT, TASK_COUNTS, TaskShares
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.training.recording import record, with_fields
from tests.reference.acting import World

NETWORK = NetworkConfig(torso="mlp", core="none", frame_stack=1, precision="float32", num_tasks=2)


def test_shares_are_an_average_that_starts_with_the_first_update() -> None:
    shares = TaskShares([0.5, 0.5])
    assert shares.weights().tolist() == [1, 1]
    shares.merge(torch.tensor([30.0, 10.0], dtype=torch.float64))
    assert shares.shares.tolist() == pytest.approx([0.75, 0.25])
    shares.merge(torch.zeros(2, dtype=torch.float64))
    assert shares.weights().tolist() == pytest.approx([2 / 3, 2])
    for _ in range(3000):
        shares.merge(torch.tensor([99.0, 1.0], dtype=torch.float64))
    assert shares.weights().tolist() == pytest.approx([0.5 / 0.99, LARGEST_WEIGHT])


def test_counts_are_of_valid_transitions() -> None:
    task, valid = torch.tensor([[0, 1], [1, 1]]), torch.tensor([[True, True], [True, False]])
    assert TaskShares([0.5, 0.5]).counts(task, valid).tolist() == [1, 2]


@pytest.mark.parametrize("make", [VTrace, PPO])
def test_a_rare_task_counts_for_more(make: type[ActorCriticAlgorithm]) -> None:
    spec = World(NETWORK).spec
    subject = World(
        NETWORK,
        make=make,
        options=make.Options(popart="off", keep_shares=True),
        optimiser=OptimiserConfig(learning_rate=0.0),
        spec=join([replace(spec, environment=name) for name in "ab"], "ab"),
    )
    learnt = subject.learner.learnt
    assert isinstance(learnt, Learnt)
    assert learnt.shares is not None
    batch = record(subject.algorithm, subject.learner.network, subject.spec, num_unrolls=16, seed=1)
    rare = torch.zeros_like(batch.fields[TASK])
    rare[:, :4] = 1
    batch = with_fields(batch, task=rare)
    step = next(iter(subject.algorithm.steps(learnt, None, batch)))
    assert step.moments is not None
    learnt.shares.merge(step.moments[TASK_COUNTS])
    weights = learnt.shares.weights()[rare[:-1]]
    if make is PPO:  # a minibatch has shares of its own
        metrics = subject.learner.update(with_fields(batch, policy_version=torch.zeros_like(rare)), 0.0).metrics
        assert {"task/0/loss_weight", "task/1/loss_weight"} <= set(metrics)
        return
    assert float(weights[batch.valid].mean()) == pytest.approx(1.0, abs=1e-5)
    seen = subject.algorithm.see(subject.learner.learnt, batch)  # type: ignore[attr-defined]
    errors = torch.where(batch.valid, 1.0, 0.0) * seen.values.detach()[:-1]
    plain, kept = errors.square().sum(), (weights * errors.square()).sum()
    assert float(kept) != pytest.approx(float(plain))
    again = next(iter(subject.algorithm.steps(learnt, None, batch)))
    assert float(again.metrics["baseline_loss"]) != pytest.approx(float(step.metrics["baseline_loss"]))
    assert torch.equal(again.weight, step.weight)


def test_without_the_option_nothing_is_weighed() -> None:
    spec = World(NETWORK).spec
    joint = join([replace(spec, environment=name) for name in "ab"], "ab")
    subject = World(NETWORK, options=VTrace.Options(popart="off"), spec=joint)
    assert subject.learner.learnt is subject.learner.network
