"""R2D2 and Ape-X on recorded unrolls: replayed states, losses against the slow oracle, and what must have no say.

All unrolls come from the inside of a server on which slots move out of step, episodes end in mid-unroll by termination
and by time limit, and leases end while others go on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.common.options import override
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.algorithms.exploration import epsilon_ladder
from seedbed.server.algorithms.replayed_q import R2D2, ApeX, ReplayedQ
from seedbed.server.experience.batch import Sample, TrainBatch
from seedbed.server.networks.interface import PolicyNetwork
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from tests.reference.acting import IMAGE, VECTOR, World
from tests.reference.value_learning import n_step_target, priority, textbook_rescale, textbook_unrescale

LSTM = NetworkConfig(torso="mlp", core="lstm", core_size=16, frame_stack=2, precision="float32")
MLP = NetworkConfig(torso="mlp", core="none", frame_stack=1, precision="float32")
CONV_LSTM = NetworkConfig(torso="impala_shallow", core="lstm", core_size=16, frame_stack=4, precision="float32")
GTRXL = dataclasses.replace(LSTM, core="gtrxl", core_memory=7)
LAYOUTS = {"no burn-in": (0, 6, 6), "burn-in": (4, 6, 5), "burn-in longer than the period": (9, 4, 3)}


def make_world(
    algorithm: type[ReplayedQ],
    network: NetworkConfig = LSTM,
    layout: tuple[int, int, int] = (4, 6, 5),
    options: Mapping[str, Any] | None = None,
    learning_rate: float = 1e-3,
    learning: Mapping[str, Any] | None = None,
) -> World:
    """A world whose unrolls have a burn-in, T and a period as `layout` says; its algorithm's options and learning's."""
    burn_in, unroll_length, period = layout

    rows = {"burn_in": burn_in, "period": period} if algorithm is R2D2 else {}
    own = algorithm.Options(**{**rows, "n_step": 3, "head_size": 16, **(options or {})})

    def make(config: ServerConfig, spec: EnvironmentSpec) -> ReplayedQ:
        values: dict[str, Any] = {"learning.unroll_length": unroll_length, "learning.batch_size": 4}
        values["fleet.num_envs"] = 8
        values |= {f"learning.{name}": value for name, value in (learning or {}).items()}
        return algorithm(override(config, values), spec)  # type: ignore[call-arg]  # as members of the family are made

    return World(
        network,
        observation=IMAGE if network.torso == "impala_shallow" else VECTOR,
        make=make,
        options=own,
        optimiser=OptimiserConfig(learning_rate=learning_rate),
    )


def drawn(batch: TrainBatch, weights: Tensor | None = None) -> TrainBatch:
    """As if a replay had drawn it."""
    count = len(batch.provenance)
    numbers = np.zeros(count, np.int64)
    return dataclasses.replace(
        batch, sample=Sample(numbers, numbers, torch.ones(count) if weights is None else weights)
    )


def record(world: World, turns: int = 150) -> list[TrainBatch]:
    world.run(turns)
    batches = [drawn(batch) for batch in world.batches()]
    fields = [batch.fields["step_type"] for batch in batches]
    assert any((kinds[1:-1] == StepType.LAST).any() for kinds in fields)
    assert any(source.length < world.layout.num_rows for batch in batches for source in batch.provenance)
    return batches


def family(world: World) -> ReplayedQ:
    assert isinstance(world.algorithm, ReplayedQ)
    return world.algorithm


def drift(world: World, batch: TrainBatch) -> float:
    """Largest difference between replayed and recorded Q-values of rows that are trained on."""
    metrics = world.only_step(batch, world.learner.learnt).metrics
    return float(metrics["q_drift_max"])


@pytest.mark.parametrize("network", [LSTM, CONV_LSTM, GTRXL], ids=["lstm", "conv, lstm", "gtrxl"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_replaying_stored_states_gives_the_recorded_q_values(
    layout: tuple[int, int, int], network: NetworkConfig
) -> None:
    world = make_world(R2D2, network, layout)
    batches = record(world, 100)
    assert sum(int(batch.valid[layout[0] :].sum()) for batch in batches) > 150
    assert max(drift(world, batch) for batch in batches) < 1e-5


@pytest.mark.parametrize("layout", [(4, 6, 5), (9, 4, 3)])
def test_the_state_that_enters_the_row_behind_the_burn_in_does_not(layout: tuple[int, int, int]) -> None:
    """SEED RL's state, `burn_in` rows late: were it stored, the test above would see it."""
    world = make_world(R2D2, layout=layout)
    worst = []
    for batch in record(world):
        with torch.no_grad():
            rows = batch_inputs(batch).map(lambda x: x[: layout[0]])
            _, late = world.learner.network.unroll(rows, batch.state)
        worst.append(drift(world, dataclasses.replace(batch, state=late)))
    assert sum(size > 1e-2 for size in worst) >= 3, (
        "a FIRST within the burn-in hides it in most of these short episodes"
    )


def expected_loss(world: World, batch: TrainBatch, target: PolicyNetwork) -> tuple[float, list[float]]:
    """Loss and priorities, one unroll and one transition at a time."""
    algorithm = family(world)
    burn_in, first_lookahead = algorithm._burn_in, world.layout.num_rows - 1 - algorithm._lookahead
    rescaled = algorithm._q.rescale_values
    with torch.no_grad():
        online_q = world.learner.network.unroll(batch_inputs(batch), batch.state)[0].q_values.double()
        target_q = target.unroll(batch_inputs(batch), batch.state)[0].q_values.double()
    assert batch.sample is not None
    total, priorities = 0.0, []
    for b, weight in enumerate(batch.sample.weights.tolist()):
        best = online_q[:, b].argmax(-1).tolist()
        values = [target_q[t, b, best[t]].item() for t in range(len(best))]
        errors = []
        for t in range(burn_in, first_lookahead):
            if not batch.valid[t, b]:
                continue
            worth = n_step_target(
                t,
                batch.fields["reward"][1:, b].tolist(),
                (0.99 * batch.fields["discount"][1:, b].double()).tolist(),
                [textbook_unrescale(value) for value in values] if rescaled else values,
                batch.valid[:, b].tolist(),
                algorithm._q.n_step,
            )
            worth = textbook_rescale(worth) if rescaled else worth
            errors.append(worth - online_q[t, b, int(batch.fields["action.action"][t, b])].item())
        total += weight * 0.5 * sum(error**2 for error in errors)
        priorities.append(priority(errors, algorithm._priority_eta) if errors else 0.0)
    return total / len(priorities), priorities


CASES: dict[str, Callable[[], World]] = {
    "r2d2": lambda: make_world(R2D2, learning={"reward_clipping": "none"}),
    "r2d2, n beyond the unroll": lambda: make_world(R2D2, options={"n_step": 9}, learning={"reward_clipping": "none"}),
    "apex": lambda: make_world(ApeX, MLP, (0, 5, 5), {"rescale_values": False}, learning={"reward_clipping": "none"}),
    "apex, single transitions": lambda: make_world(ApeX, MLP, (0, 1, 1), learning={"reward_clipping": "none"}),
}


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_loss_and_priorities_are_those_of_the_oracle(make: Callable[[], World]) -> None:
    world = make()
    target = world.algorithm.make_learnt()
    world.scramble(target)
    generator = torch.Generator().manual_seed(0)
    for batch in record(world)[:12]:
        batch = drawn(batch, torch.rand(4, generator=generator))
        step = world.only_step(batch, target)
        total, priorities = expected_loss(world, batch, world.algorithm.acting(target))
        assert step.loss is not None
        assert step.loss.item() == pytest.approx(total, rel=1e-4)
        assert int(step.weight) == 4
        assert step.priorities is not None
        assert step.priorities.tolist() == pytest.approx(priorities, rel=1e-4, abs=2e-6)


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_initial_priorities_are_what_the_loss_would_say_with_both_networks_as_they_acted(
    make: Callable[[], World],
) -> None:
    world = make()
    for batch in record(world)[:12]:
        bare = dataclasses.replace(batch, observations=(), state=(), sample=None)
        step = world.only_step(batch, world.learner.learnt)
        torch.testing.assert_close(world.algorithm.initial_priorities(bare), step.priorities, rtol=1e-3, atol=1e-5)


def test_the_burn_in_passes_no_gradient_and_acts_through_the_state_alone() -> None:
    world, burn_in = make_world(R2D2), 4
    batch = record(world)[0]
    observations = tuple(x.clone().requires_grad_() for x in batch.observations)
    probe = dataclasses.replace(batch, observations=observations)
    world.loss(probe).backward()
    gradient = observations[0].grad
    assert gradient is not None
    assert not gradient[:burn_in].any()
    assert gradient[burn_in:-1].any()

    forward = make_world(R2D2, MLP)
    batch = record(forward)[0]
    other = tuple(torch.cat((torch.randn_like(x[:burn_in]), x[burn_in:])) for x in batch.observations)
    losses = [forward.loss(part) for part in (batch, dataclasses.replace(batch, observations=other))]
    assert torch.equal(*losses), "without a memory the burn-in means nothing"


def test_gradient_flows_through_the_rows_that_are_trained_on_and_through_no_other() -> None:
    """The lookahead is there for returns alone."""
    world = make_world(ApeX, MLP, (0, 4, 4))
    for batch in record(world)[:12]:
        (observation,) = (x.clone().requires_grad_() for x in batch.observations)
        probe = dataclasses.replace(batch, observations=(observation,))
        world.loss(probe).backward()
        assert observation.grad is not None
        reached = observation.grad.flatten(2).any(-1)
        assert torch.equal(reached[:4], batch.valid[:4])
        assert not reached[4:].any()


def test_no_gradient_reaches_the_target_network() -> None:
    world = make_world(R2D2)
    target = world.algorithm.make_learnt()
    world.loss(record(world)[0], target).backward()
    assert all(parameter.grad is None for parameter in target.parameters())
    assert all(parameter.grad is not None for parameter in world.learner.network.parameters())


def test_apex_trains_each_transition_once_and_with_its_whole_return() -> None:
    world = make_world(ApeX, MLP, (0, 4, 4))
    trained: dict[int, list[int]] = {}
    for batch in record(world):
        q_values = batch.fields["q_values"]
        _, valid = family(world)._errors(q_values, q_values, batch)
        for t, b in valid.nonzero().tolist():
            trained.setdefault(batch.provenance[b].lease, []).append(batch.provenance[b].first_seq + t)
            source = batch.provenance[b]
            whole = batch.valid[t : t + 3, b].all()
            ends = not batch.valid[t : t + 3, b].all() and t + 3 < source.length
            assert whole or ends or source.length < world.layout.num_rows, "a return is short without a reason"
    assert all(len(numbers) == len(set(numbers)) for numbers in trained.values())
    assert max(map(len, trained.values())) > 20


@pytest.mark.parametrize("algorithm", [R2D2, ApeX])
def test_updates_on_one_batch_reduce_its_errors(algorithm: type[ReplayedQ]) -> None:
    world = make_world(algorithm, LSTM if algorithm is R2D2 else MLP, (0, 6, 6), learning_rate=3e-3)
    batch = record(world)[0]
    losses = [float(world.learner.update(batch, 0.0).metrics["loss"]) for _ in range(150)]
    assert losses[-1] < 0.5 * losses[0]


def test_environments_explore_at_their_own_rates_and_greedy_ones_not_at_all() -> None:
    world = make_world(R2D2, MLP)
    expected = epsilon_ladder(8)
    other, rows = torch.zeros(8), torch.zeros(8)
    for log_batch in record(world, 400):
        best = log_batch.fields["q_values"].argmax(-1)
        for b, source in enumerate(log_batch.provenance):
            index = source.environment_index % 8
            length = source.length
            other[index] += (log_batch.fields["action.action"][:length, b] != best[:length, b]).sum()
            rows[index] += length
    seen = rows > 100
    rate = 0.8 * expected  # one action of five is the best one anyway
    deviation = (rate * (1 - rate) / rows.clamp(min=1)).sqrt()
    assert ((other / rows.clamp(min=1) - rate).abs() < 5 * deviation + 2e-3)[seen].all()
    assert seen.sum() == 6


def test_apex_refuses_a_memory_and_a_period_must_fit() -> None:
    with pytest.raises(UsageError, match="--core none with --algorithm apex"):
        make_world(ApeX, LSTM)
    with pytest.raises(UsageError, match="period of 1 to 10 rows"):
        make_world(R2D2, LSTM, (4, 6, 11))
