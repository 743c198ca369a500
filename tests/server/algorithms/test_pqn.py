"""PQN on batches of a real policy: its targets row by row, its steps, its exploration, its settings."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from seedbed.common.errors import UsageError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.algorithms.acting import Acting
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.algorithms.pqn import PQN, PQNOptions
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.returns import lambda_returns
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.options.run import RunConfig
from tests.reference.acting import World
from tests.reference.returns import q_lambda_returns

SPEC = EnvironmentSpec(
    environment="x",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(6,)),),
    actions=(discrete("action", 5),),
)
LSTM = NetworkConfig(torso="mlp", core="lstm", core_size=16, frame_stack=1, precision="float32", normalise_layers=True)


def world_of(**options: Any) -> World:
    return World(LSTM, make=PQN, options=PQNOptions(**options))


def recorded(world: World) -> list[TrainBatch]:
    world.run(60)
    batches = world.batches()
    assert len(batches) > 5
    assert any(not batch.valid.all() for batch in batches)
    return batches


def parts_of(world: World, batch: TrainBatch) -> list[TrainBatch]:
    assert isinstance(world.algorithm, PQN)
    return [part for part in world.algorithm.minibatches(world.learner.network, batch) if part is not None]


def targets_of(world: World, batch: TrainBatch, lambda_: float) -> list[list[float | None]]:
    """Of every unroll, one transition at a time."""
    with torch.no_grad():
        q_values = copy.deepcopy(world.learner.network).unroll(batch_inputs(batch), batch.state)[0].q_values
    fields, found = batch.fields, []
    for b in range(batch.valid.shape[1]):
        rewards = fields["reward"][1:, b].clamp(-1, 1).tolist()
        discounts = (0.99 * fields["discount"][1:, b]).tolist()
        best = q_values[:, b].amax(-1).tolist()
        found.append(q_lambda_returns(rewards, discounts, best, batch.valid[:, b].tolist(), lambda_))
    return found


def test_golden_returns() -> None:
    """The second of three transitions ends the episode."""
    returns = lambda_returns(
        rewards=torch.tensor([1.0, 0, 2])[:, None],
        discounts=torch.tensor([0.9, 0, 0.9])[:, None],
        values=torch.tensor([0.5, 1, 0.2, 0.3])[:, None],
        valid=torch.ones(3, 1, dtype=torch.bool),
        lambda_=0.65,
    )
    assert returns[:, 0].tolist() == pytest.approx([1.315, 0, 2.27])
    assert q_lambda_returns([1, 0, 2], [0.9, 0, 0.9], [0.5, 1, 0.2, 0.3], [True] * 3, 0.65) == pytest.approx(
        [1.315, 0, 2.27]
    )


@pytest.mark.parametrize("lambda_", [0.0, 0.65, 1.0])
def test_targets_are_those_of_the_parameters_that_acted(lambda_: float) -> None:
    """Though the network changes while the minibatches are drawn; agent states are those before the unrolls."""
    world = world_of(lambda_=lambda_, epochs=2, minibatches=2)
    batch = recorded(world)[0]
    expected = targets_of(world, batch, lambda_)
    assert isinstance(world.algorithm, PQN)
    seen = 0
    for part in world.algorithm.minibatches(world.learner.network, batch):
        assert part is not None
        for b, source in enumerate(part.provenance):
            original = batch.provenance.index(source)
            assert torch.equal(part.state[0][b], batch.state[0][original])
            for t, target in enumerate(expected[original]):
                if target is not None:
                    assert part.fields["value_target"][t, b].item() == pytest.approx(target, abs=1e-4)
                    seen += 1
        world.scramble(world.learner.network)
    assert seen == 2 * batch.valid.sum()


def test_a_step_is_half_the_mean_squared_error_of_what_was_done() -> None:
    world = world_of(epochs=1, minibatches=1)
    batch = recorded(world)[0]
    expected = targets_of(world, batch, 0.65)
    network = world.learner.network
    with torch.no_grad():
        q_values = network.unroll(batch_inputs(batch), batch.state)[0].q_values
    action, errors = batch.fields["action.action"], []
    for b, targets in enumerate(expected):
        for t, target in enumerate(targets):
            if target is not None:
                errors.append(target - q_values[t, b, action[t, b]].item())
    step = world.only_step(batch)
    assert step.loss is not None
    assert step.loss.item() == pytest.approx(0.5 * sum(e * e for e in errors) / len(errors), rel=1e-4)
    assert step.weight == len(errors)
    step.loss.backward()
    assert all(x.grad is not None for x in network.parameters())


@pytest.mark.parametrize(("minibatches", "sizes"), [(9, [1, 1, 1, 1]), (3, [2, 1, 1]), (1, [4])])
def test_a_round_of_any_size_keeps_to_the_plan(minibatches: int, sizes: list[int]) -> None:
    world = world_of(epochs=2, minibatches=minibatches)
    batches = recorded(world)
    assert [len(part.provenance) for part in parts_of(world, batches[0])] == sizes * 2
    assert world.algorithm.plan(0) == ("all",) * minibatches * 2
    assert world.algorithm.target is None
    update = world.learner.update(batches[0], 0.0)
    assert (world.learner.num_updates, world.learner.optimiser_steps) == (1, 2 * len(sizes))
    assert sum(map(int, update.weights)) == 2 * batches[0].valid.sum()
    with pytest.raises(RuntimeError, match=r"expected a batch that version 1 acted, got versions \[0\]"):
        world.learner.update(batches[1], 0.0)


def test_invalid_transitions_may_hold_anything() -> None:
    """A feed-forward network: what an action or reward is worth to a core is another matter."""
    world = World(dataclasses.replace(LSTM, core="none"), make=PQN, options=PQNOptions(epochs=1, minibatches=1))
    batch = recorded(world)[0]
    valid = batch.valid.clone()
    valid[2:, 0] = False
    left = torch.cat((~valid, torch.zeros(1, valid.shape[1], dtype=torch.bool)))
    clean, fields = dataclasses.replace(batch, valid=valid), dict(batch.fields)
    for name in ("reward", "discount"):
        fields[name] = fields[name].masked_fill(left.roll(1, 0), torch.nan)
    fields["action.action"] = fields["action.action"].masked_fill(left, 77)
    steps = []
    for each in (clean, dataclasses.replace(clean, fields=fields)):
        torch.manual_seed(0)  # of the order of unrolls
        steps.append(world.only_step(each))
    ours, theirs = steps
    assert ours.loss is not None
    assert ours.loss == theirs.loss
    assert ours.metrics == theirs.metrics


def test_epsilon_falls_over_the_first_share_of_the_run_and_stays() -> None:
    config = ServerConfig(
        algorithm="it",
        algorithm_options=PQNOptions(exploration_share=0.2, final_epsilon=0.1),
        network=LSTM,
        run=RunConfig(max_steps=1000),
    )
    algorithm = PQN(config, SPEC)
    rates = []
    for steps in (0, 100, 200, 900):
        rate = algorithm.epsilon(Acting(torch.arange(3), torch.Generator(), steps, None))
        assert rate.shape == (3,)
        assert len(set(rate.tolist())) == 1
        rates.append(rate[0].item())
    assert rates == pytest.approx([1, 0.55, 0.1, 0.1])
    none = dataclasses.replace(config, algorithm_options=PQNOptions(exploration_share=0.0, final_epsilon=0.1))
    assert PQN(none, SPEC).epsilon(Acting(torch.arange(1), torch.Generator(), 0, None)).tolist() == pytest.approx([0.1])


def test_published_settings_are_the_defaults() -> None:
    options, shown = PQNOptions(), ArraySpec(name="screen", dtype="uint8", shape=(84, 84), low=(0,), high=(255,))
    assert (options.lambda_, options.epochs, options.minibatches) == (0.65, 2, 32)
    assert (options.exploration_share, options.final_epsilon) == (0.1, 0.001)
    of_vectors = PQN.defaults(SPEC)
    of_images = PQN.defaults(dataclasses.replace(SPEC, observations=(shown,)))
    assert of_images == {**of_vectors, "network.torso": "nature", "fleet.num_envs": 128}
    assert of_vectors["network.normalise_layers"]
    assert (of_vectors["optimiser.optimiser"], of_vectors["optimiser.learning_rate"]) == ("radam", 2.5e-4)


@pytest.mark.parametrize(("name", "value"), [("lambda_", 1.5), ("final_epsilon", -0.1)])
def test_what_makes_no_sense_is_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=r"expected --(lambda|final-epsilon) between 0 and 1, got"):
        PQNOptions(**{name: value})  # type: ignore[arg-type]
