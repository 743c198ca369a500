"""PopArt with statistics and a head of each task: what public implementations get wrong, each once.

Golden numbers: two tasks, rate 0.1, targets {3, 5} of the first and {12} of the second.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.common.joint_spec import join
from seedbed.server.algorithms.actor_critic import ActorCriticAlgorithm
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.algorithms.ppo import PPO
from seedbed.server.algorithms.task_losses import VALUE_TARGETS, value_moments
from seedbed.server.algorithms.vtrace import VTrace
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import TASK
from seedbed.server.inference.parameters import acting_copy
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.value_head import ValueHead, ValueMoments
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.training.recording import record, with_fields
from tests.reference.acting import World

NETWORK = NetworkConfig(torso="mlp", core="none", frame_stack=1, precision="float32", num_tasks=3)
STILL = OptimiserConfig(learning_rate=0.0)


def world(make: type[ActorCriticAlgorithm] = VTrace, network: NetworkConfig = NETWORK, **options: Any) -> World:
    """Three tasks whose rows are alike; lease n plays task n mod 3."""
    spec = World(NETWORK).spec
    subject = World(
        network,
        make=make,
        options=make.Options(popart="on", **options),
        optimiser=STILL,
        spec=join([replace(spec, environment=name) for name in "abc"], "abc"),
    )
    begin = subject.inference.begin

    def lease(slots: Any, serial: int, indices: Sequence[int]) -> None:
        begin(slots, serial, indices, [serial % 3 for _ in indices])

    subject.inference.begin = lease  # type: ignore[method-assign,assignment]
    return subject


def batches_of(subject: World) -> list[TrainBatch]:
    subject.run(60)
    return subject.batches()


def head_of(network: Any) -> ValueHead:
    assert isinstance(network, ActorCritic)
    assert isinstance(network.value, ValueHead)
    return network.value


def values_of(subject: World, batch: TrainBatch) -> Tensor:
    with torch.no_grad():
        outputs, _ = subject.learner.network.unroll(batch_inputs(batch), batch.state)
    values: Tensor = outputs.value
    return values


def golden() -> ValueMoments:
    moments = ValueMoments(2, rate=0.1)
    moments.mean.copy_(torch.tensor([0.0, 10.0]))
    moments.second.copy_(torch.tensor([1.0, 104.0]))
    moments.kept.zero_()  # the average has run for long
    return moments


TARGETS = torch.tensor([[3.0, 12.0], [5.0, float("nan")]])
TASKS = torch.tensor([[0, 1], [0, 1]])
VALID = torch.tensor([[True, True], [True, False]])


def test_a_batch_moves_each_tasks_moments_once_and_keeps_the_spread_within_it() -> None:
    """Not once for each target (rate 1 - 0.9^2), not by the square of the mean (1.5297), not the spread itself (1)."""
    moments = golden()
    moments.merge(moments.sums(TARGETS, VALID, TASKS))
    assert moments.mean.tolist() == pytest.approx([0.4, 10.2])
    assert moments.scale().spread.tolist() == pytest.approx([1.56205, 1.989975], rel=1e-6)


def test_a_task_that_is_not_in_a_batch_stays_as_it_is() -> None:
    """Elsewhere its mean is 0 / 0."""
    moments = golden()
    moments.merge(moments.sums(TARGETS, VALID & (TASKS == 0), TASKS))
    assert moments.mean.tolist() == pytest.approx([0.4, 10.0])
    assert (float(moments.second[1]), float(moments.kept[1])) == (104.0, 0.0)


def test_several_learners_add_up_sums_before_a_spread_is_made_of_them() -> None:
    """The mean of two learners' own spreads would be smaller: 3 and 5 differ between them."""
    parts = [golden().sums(TARGETS[t : t + 1], VALID[t : t + 1], TASKS[t : t + 1]) for t in range(2)]
    moments = golden()
    moments.merge(parts[0] + parts[1])
    assert moments.scale().spread.tolist() == pytest.approx([1.56205, 1.989975], rel=1e-6)


def test_every_row_has_the_value_of_its_own_task() -> None:
    subject = world()
    batch = batches_of(subject)[0]
    network = subject.learner.network
    with torch.no_grad():
        features, _ = network.body.unroll(batch_inputs(batch), batch.state)  # type: ignore[union-attr,operator]
        every = head_of(network)(features)
    own = values_of(subject, batch)
    assert every.shape[-1] == 3
    assert torch.equal(own, every.gather(-1, batch.fields[TASK][..., None]).squeeze(-1))
    other = values_of(subject, with_fields(batch, task=(batch.fields[TASK] + 1) % 3))
    assert float((own - other).abs().max()) > 1e-3


@pytest.mark.parametrize("make", [VTrace, PPO])
def test_at_learning_rate_0_values_and_targets_stay_whatever_the_statistics_do(
    make: type[ActorCriticAlgorithm],
) -> None:
    subject = world(make, popart_rate=0.3)
    batches = batches_of(subject)
    units = torch.tensor([1.0, 100.0, 0.01])
    batches = [with_fields(batch, reward=batch.fields["reward"] * units[batch.fields[TASK]]) for batch in batches]
    subject.algorithm._learning = replace(subject.algorithm._learning, reward_clipping="none")
    seen = [subject.algorithm.see(subject.learner.learnt, batch) for batch in batches]  # type: ignore[attr-defined]
    before = [values_of(subject, batch) for batch in batches]
    for _ in range(3):
        for batch in batches:
            version = torch.full_like(batch.fields["policy_version"], subject.learner.num_updates)
            subject.learner.update(with_fields(batch, policy_version=version), 0.0)
    head = head_of(subject.learner.network)
    assert len({round(float(spread), 3) for spread in head.spread}) == 3
    assert float(head.spread.max() / head.spread.min()) > 20
    for batch, values, old in zip(batches, before, seen, strict=True):
        now = values_of(subject, batch)
        assert float((now - values).abs().max()) < 1e-5 * max(1.0, float(values.abs().max()))
        again = subject.algorithm.see(subject.learner.learnt, batch)  # type: ignore[attr-defined]
        assert float(again.log_ratios.detach().abs().max()) < 1e-4
        torch.testing.assert_close(again.values.detach(), old.values.detach(), rtol=1e-4, atol=1e-5)


def test_errors_are_in_units_of_each_tasks_own_new_spread() -> None:
    """With rewards of a task x100 its share of the gradient stays what it was."""
    subject = world(popart_rate=1.0)  # the spread is that of the batch
    batch = record(subject.algorithm, subject.learner.network, subject.spec, num_unrolls=12, seed=1)
    subject.algorithm._learning = replace(subject.algorithm._learning, reward_clipping="none", discount=0.5)

    def loss_of(scale: float) -> float:
        scaled = with_fields(batch, reward=torch.where(batch.fields[TASK] == 1, scale, 1.0) * batch.fields["reward"])
        learner = copy.deepcopy(subject.learner)
        moments = subject.only_step(scaled).moments
        assert moments is not None
        subject.algorithm.after_update(learner.learnt, moments)
        statistics = value_moments(learner.learnt)
        assert statistics is not None
        assert moments[VALUE_TARGETS].shape == (3, 3)
        return float(subject.only_step(scaled).metrics["baseline_loss"])

    assert loss_of(100.0) < 2.0 * loss_of(1.0) < 4.0


def test_what_acts_has_whole_heads_and_a_resumed_run_the_same_statistics() -> None:
    subject = world(popart_rate=0.3)
    batches = batches_of(subject)
    for batch in batches[:3]:
        subject.learner.update(batch, 0.0)
    acting, learnt = head_of(acting_copy(subject.learner.network)), head_of(subject.learner.network)
    for name, array in learnt.state_dict().items():
        assert torch.equal(array, acting.state_dict()[name]), name
    again = world(popart_rate=0.3)
    again.learner.set_state(copy.deepcopy(subject.learner.get_state()))
    for one in (subject, again):
        one.learner.update(batches[3], 0.0)
    ours, theirs = (value_moments(one.learner.learnt) for one in (subject, again))
    assert ours is not None
    assert theirs is not None
    for name, array in ours.state_dict().items():
        assert torch.equal(array, theirs.state_dict()[name]), name
    assert torch.equal(values_of(subject, batches[3]), values_of(again, batches[3]))


def test_metrics_name_the_statistics_of_each_task() -> None:
    subject = world()
    metrics = subject.learner.update(batches_of(subject)[0], 0.0).metrics
    assert {f"task/{number}/value_target_spread" for number in range(3)} <= set(metrics)
