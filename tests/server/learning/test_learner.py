"""One update: what it must keep over a restart, what scales it, and what must not touch it."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import pytest
import torch
from torch import Tensor

from seedbed.common.errors import ConfigError
from seedbed.server.algorithms.update_steps import Target
from seedbed.server.algorithms.vtrace import VTraceOptions
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.learning.learner import Learner
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from tests.reference.acting import CPU, World

LSTM = NetworkConfig(torso="mlp", core="lstm", core_size=16, frame_stack=2, precision="float32")
MLP = NetworkConfig(torso="mlp", core="none", frame_stack=1, precision="float32")


def recorded(
    network: NetworkConfig = MLP,
    optimiser: OptimiserConfig | None = None,
    options: VTraceOptions | None = None,
) -> tuple[World, list[TrainBatch]]:
    """A world whose learner has not been trained, and batches it has recorded."""
    world = World(network, optimiser=optimiser, options=options)
    world.run(60)
    batches = world.batches()
    assert any(source.length < world.layout.num_rows for batch in batches for source in batch.provenance)
    return world, batches


def weights(learner: Learner) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in learner.network.parameters()]


def all_equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


def with_fields(batch: TrainBatch, **fields: Tensor) -> TrainBatch:
    return dataclasses.replace(batch, fields={**batch.fields, **fields})


@pytest.mark.parametrize(
    ("name", "momentum"), [("adam", 0.0), ("rmsprop", 0.0), ("rmsprop", 0.9), ("rmsprop_tf", 0.0), ("rmsprop_tf", 0.9)]
)
def test_a_restored_learner_goes_on_bit_for_bit(
    name: Literal["adam", "rmsprop", "rmsprop_tf"], momentum: float
) -> None:
    config = OptimiserConfig(optimiser=name, momentum=momentum, learning_rate=1e-3, epsilon=1e-3)
    world, batches = recorded(LSTM, config)
    for batch in batches[:3]:
        world.learner.update(batch, 0.1)
    state = copy.deepcopy(world.learner.get_state())
    torch.manual_seed(99)
    restored = Learner(world.algorithm, config, CPU)
    assert not all_equal(weights(restored), weights(world.learner))
    restored.set_state(state)
    for batch in batches[3:5]:
        metrics = [learner.update(batch, 0.2).metrics for learner in (world.learner, restored)]
        assert metrics[0] == metrics[1]
        assert all_equal(weights(world.learner), weights(restored))
    assert world.learner.num_updates == restored.num_updates == 5


def test_the_target_network_is_copied_every_so_many_updates_and_frozen_in_between() -> None:
    world, batches = recorded(optimiser=OptimiserConfig(learning_rate=1e-2))
    world.algorithm.target = Target(period=3)
    learner = Learner(world.algorithm, OptimiserConfig(learning_rate=1e-2), CPU)
    target = learner.target
    assert target is not None
    seen: list[Tensor] = []
    for update in range(1, 8):
        learner.update(batches[0], 0.0)
        seen.append(next(target.parameters()).clone())
        assert torch.equal(seen[-1], next(learner.network.parameters())) == (update % 3 == 0)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[4])
    assert not torch.equal(seen[1], seen[2])
    assert not any(parameter.requires_grad for parameter in target.parameters())


def test_the_target_network_survives_a_restart() -> None:
    world, batches = recorded()
    world.algorithm.target = Target(period=3)
    learner, restored = (Learner(world.algorithm, OptimiserConfig(), CPU) for _ in range(2))
    for batch in batches[:4]:
        learner.update(batch, 0.0)
    restored.set_state(copy.deepcopy(learner.get_state()))
    ours, theirs = learner.target, restored.target
    assert ours is not None
    assert theirs is not None
    assert all(torch.equal(x, y) for x, y in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert not torch.equal(next(theirs.parameters()), next(restored.network.parameters()))


def test_the_learning_rate_decays_with_progress() -> None:
    world, batches = recorded(optimiser=OptimiserConfig(learning_rate=0.01, final_learning_rate_share=0.2))
    rates = [
        float(world.learner.update(batches[0], progress).metrics["learning_rate"]) for progress in (0.0, 0.5, 1.0, 1.5)
    ]
    assert rates == pytest.approx([0.01, 0.006, 0.002, 0.002])


def test_the_step_taken_is_that_of_the_decayed_rate() -> None:
    """Adam's first step is the learning rate itself, whatever the gradient."""
    largest = []
    for progress in (0.0, 0.75):
        world, batches = recorded(optimiser=OptimiserConfig(learning_rate=0.01, final_learning_rate_share=0.0))
        before = weights(world.learner)
        world.learner.update(batches[0], progress)
        moved = [(x - y).abs().max() for x, y in zip(before, weights(world.learner), strict=True)]
        largest.append(float(torch.stack(moved).max()))
    assert largest == pytest.approx([0.01, 0.0025], rel=1e-3)


@pytest.mark.parametrize("network", [MLP, LSTM], ids=["mlp", "lstm"])
def test_with_learning_rate_zero_nothing_moves_and_log_rho_stays_zero(network: NetworkConfig) -> None:
    world, batches = recorded(network, OptimiserConfig(learning_rate=0.0))
    before = weights(world.learner)
    for number, batch in enumerate(batches):
        metrics = world.learner.update(batch, 0.0).metrics
        assert metrics["abs_log_rho_max"] < 1e-4
        assert metrics["kl_behaviour"].abs() < 1e-6
        assert metrics["policy_lag_mean"] == number, "versions go on counting"
    assert all_equal(before, weights(world.learner))
    assert world.learner.num_updates == len(batches)


def test_sum_and_mean_differ_by_the_number_of_valid_transitions() -> None:
    gradients, totals = {}, {}
    for reduction in ("sum", "mean"):
        world, batches = recorded(options=VTraceOptions(reduction=reduction))
        batch = next(batch for batch in batches if not batch.valid.all())
        loss = world.loss(batch)
        loss.backward()
        grads = [x.grad for x in world.learner.network.parameters() if x.grad is not None]
        gradients[reduction] = torch.cat([grad.flatten() for grad in grads])
        totals[reduction] = loss.detach()
    num_valid = batch.valid.sum()
    assert 0 < num_valid < batch.valid.numel()
    torch.testing.assert_close(gradients["sum"], gradients["mean"] * num_valid, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(totals["sum"], totals["mean"] * num_valid, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", [MLP, LSTM], ids=["mlp", "lstm"])
def test_what_stands_after_a_cut_changes_nothing(network: NetworkConfig) -> None:
    world, batches = recorded(network)
    batch = next(b for b in batches if any(source.length < world.layout.num_rows for source in b.provenance))
    length = torch.tensor([source.length for source in batch.provenance])
    beyond = torch.arange(world.layout.num_rows)[:, None] >= length
    filled = with_fields(
        batch,
        reward=batch.fields["reward"].masked_fill(beyond, 1e3),
        discount=batch.fields["discount"].masked_fill(beyond, 0.5),
        **{"action.action": batch.fields["action.action"].masked_fill(beyond, 3)},
        behaviour=batch.fields["behaviour"].masked_fill(beyond[..., None], -7.0),
    )
    filled = dataclasses.replace(
        filled, observations=tuple(x.masked_fill(beyond[:, :, None, None], 50.0) for x in batch.observations)
    )
    twin = Learner(world.algorithm, OptimiserConfig(), CPU)
    twin.set_state(copy.deepcopy(world.learner.get_state()))
    clean, dirty = world.learner.update(batch, 0.0).metrics, twin.update(filled, 0.0).metrics
    for name, value in clean.items():
        torch.testing.assert_close(value, dirty[name], msg=name)
    for ours, theirs in zip(weights(world.learner), weights(twin), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_lag_is_counted_over_valid_transitions() -> None:
    world, batches = recorded()
    batch = next(batch for batch in batches if not batch.valid.all())
    version = torch.arange(batch.fields["reward"].numel()).reshape(batch.fields["reward"].shape)
    world.learner.num_updates = 100
    update = world.learner.update(with_fields(batch, policy_version=version), 0.0)
    metrics = update.metrics
    lags = [
        100 - int(version[t, b])
        for t in range(batch.valid.shape[0])
        for b in range(batch.valid.shape[1])
        if batch.valid[t, b]
    ]
    assert float(metrics["policy_lag_mean"]) == pytest.approx(sum(lags) / len(lags))
    assert int(metrics["policy_lag_max"]) == max(lags)
    shown = update.histograms["policy_lag"]
    assert sorted(shown[shown.isfinite()].tolist()) == sorted(lags), "the same, each one"
    log_rho = update.histograms["log_rho"]
    assert torch.equal(log_rho.isfinite(), shown.isfinite())
    assert float(log_rho[log_rho.isfinite()].abs().mean()) == pytest.approx(
        float(metrics["abs_log_rho_mean"]), abs=1e-6
    )


def test_a_batch_without_any_valid_transition_is_harmless() -> None:
    world, batches = recorded()
    before = weights(world.learner)
    empty = dataclasses.replace(batches[0], valid=torch.zeros_like(batches[0].valid))
    metrics: Mapping[str, Tensor] = world.learner.update(empty, 0.0).metrics
    assert all(math.isfinite(float(value)) for value in metrics.values())
    assert all_equal(before, weights(world.learner))


def test_updates_on_one_batch_fit_its_values() -> None:
    world, batches = recorded(LSTM, OptimiserConfig(learning_rate=1e-3))
    losses = [float(world.learner.update(batches[0], 0.0).metrics["baseline_loss"]) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]


def test_the_gradient_is_clipped_and_its_norm_is_reported_before() -> None:
    """RMSProp with a large epsilon moves by learning rate * gradient / epsilon: the norm of the step shows the clip."""
    config = OptimiserConfig(optimiser="rmsprop", learning_rate=1.0, epsilon=1e6, clip_norm=1e-2)
    world, batches = recorded(optimiser=config)
    before = weights(world.learner)
    norm = float(world.learner.update(batches[0], 0.0).metrics["gradient_norm"])
    step = torch.cat([(x - y).flatten() for x, y in zip(before, weights(world.learner), strict=True)]).double().norm()
    assert norm > 0.05
    assert float(step) * 1e6 <= 1e-2 * 1.5  # weights near 0.1 round the tiny step


def test_weights_of_another_run_begin_a_fresh_one() -> None:
    """Optimiser and counters are not taken over; the target network is."""
    world, batches = recorded(optimiser=OptimiserConfig(learning_rate=1e-2))
    world.learner.update(batches[0], 0.1)
    world.algorithm.target = Target(period=3)
    torch.manual_seed(5)
    learner = Learner(world.algorithm, OptimiserConfig(), CPU)
    assert not all_equal(weights(learner), weights(world.learner))
    learner.take_weights(world.learner.get_state()["learnt"], "runs/x")
    assert all_equal(weights(learner), weights(world.learner))
    assert learner.target is not None
    assert all_equal(list(learner.target.parameters()), weights(world.learner))
    assert (learner.num_updates, learner.optimiser_steps) == (0, 0)
    assert learner.get_state()["optimisers"]["all"]["state"] == {}


def test_those_of_another_network_are_refused_with_the_difference() -> None:
    small, large = (World(dataclasses.replace(LSTM, core_size=size)).learner for size in (16, 24))
    before = weights(large)
    with pytest.raises(ConfigError, match=r"in runs/x, got another: .*\[64.* there, .*\[96.* here.* and \d+ more"):
        large.take_weights(small.get_state()["learnt"], "runs/x")
    feed_forward = World(MLP).learner.get_state()["learnt"]
    with pytest.raises(ConfigError, match="is missing there"):
        large.take_weights(feed_forward, "runs/x")
    assert all_equal(before, weights(large))


def test_what_explains_another_network_is_told_instead_of_tensors() -> None:
    small, large = (World(dataclasses.replace(LSTM, core_size=size)).learner for size in (16, 24))
    with pytest.raises(ConfigError, match=r"in runs/x, got another: sac there, ppo here$"):
        large.take_weights(small.get_state()["learnt"], "runs/x", ["sac there, ppo here"])
    small.take_weights(small.get_state()["learnt"], "runs/x", ["sac there, ppo here"])
