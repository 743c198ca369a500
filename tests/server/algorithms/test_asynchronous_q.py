"""One-step Q, one-step Sarsa and n-step Q on batches of a real policy: their targets, written out row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from seedbed.common.timestep import StepType
from seedbed.server.algorithms.acting import Acting
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.algorithms.q_learning import QLearningOptions
from seedbed.server.algorithms.registry import find_algorithm
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.networks.interface import Inputs
from seedbed.server.options.network import NetworkConfig
from tests.reference.acting import World
from tests.reference.returns import n_step_returns

LSTM = NetworkConfig(torso="mlp", core="lstm", core_size=16, frame_stack=1, precision="float32")
NAMES = pytest.mark.parametrize("name", ["one_step_q", "one_step_sarsa", "n_step_q"])


def world_of(name: str, exploration_steps: int = 1) -> World:
    """A world whose target network is not the one being learnt."""
    options = QLearningOptions(exploration_steps=exploration_steps, target_period_updates=3)
    world = World(LSTM, make=find_algorithm(name), options=options)
    world.scramble(world.learner.network)
    return world


def expected_loss(name: str, world: World, batch: TrainBatch) -> float:
    """Half the mean squared error, one transition at a time."""
    assert world.learner.target is not None
    with torch.no_grad():
        q_online = world.learner.network.unroll(batch_inputs(batch), batch.state)[0].q_values
        q_target = world.algorithm.acting(world.learner.target).unroll(batch_inputs(batch), batch.state)[0].q_values
    fields, total, count = batch.fields, 0.0, 0
    num_steps, num_unrolls = batch.valid.shape
    for b in range(num_unrolls):
        rewards = [min(1.0, max(-1.0, float(fields["reward"][t + 1, b]))) for t in range(num_steps)]
        discounts = [0.99 * float(fields["discount"][t + 1, b]) for t in range(num_steps)]
        actions = fields["action.action"][:, b].tolist()
        if name == "one_step_sarsa":
            values = [float(q_target[t, b, actions[t]]) for t in range(num_steps + 1)]
        else:
            values = [max(q_target[t, b].tolist()) for t in range(num_steps + 1)]
        if name == "n_step_q":
            targets = n_step_returns(rewards, discounts, values, batch.valid[:, b].tolist())
        else:
            targets = [rewards[t] + discounts[t] * values[t + 1] for t in range(num_steps)]
        for t in range(num_steps):
            if batch.valid[t, b]:
                target = targets[t]
                assert target is not None
                total += 0.5 * (target - float(q_online[t, b, actions[t]])) ** 2
                count += 1
    return total / count


@NAMES
def test_the_loss_is_that_of_the_paper(name: str) -> None:
    world = world_of(name)
    world.run(60)
    batches = world.batches()
    step_types = torch.cat([batch.fields["step_type"].flatten() for batch in batches])
    assert (step_types == StepType.LAST).any()
    discounts = torch.cat([batch.fields["discount"].flatten() for batch in batches])
    assert set(discounts[step_types == StepType.LAST].tolist()) == {0.0, 1.0}, "terminal states and time limits"
    for batch in batches:
        assert world.loss(batch).item() == pytest.approx(expected_loss(name, world, batch), rel=1e-4)


def test_the_three_differ() -> None:
    losses = []
    for name in ("one_step_q", "one_step_sarsa", "n_step_q"):
        world = world_of(name)
        world.run(20)
        losses.append(world.loss(world.batches()[0]).item())
    assert len(set(losses)) == 3


@NAMES
def test_only_the_network_being_learnt_gets_a_gradient_and_the_target_follows_by_period(name: str) -> None:
    world = world_of(name)
    world.run(80)
    learner = world.learner
    assert learner.target is not None
    frozen = [x.clone() for x in learner.target.parameters()]
    for number, batch in enumerate(world.batches()[:4], start=1):
        learner.update(batch, 0.0)
        ours, theirs = list(learner.network.parameters()), list(learner.target.parameters())
        same = all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))
        assert same == (number == 3)
        if number < 3:
            assert all(torch.equal(x, y) for x, y in zip(frozen, theirs, strict=True))
        assert all(x.grad is None for x in theirs)


def test_acting_explores_all_the_time_at_first_and_less_and_less() -> None:
    """The share of actions that are not the best: 4/5 of epsilon, for five actions."""
    shares = []
    for agent_steps in (0, 500, 1000, 2000):
        world = world_of("one_step_q", exploration_steps=1000)
        indices = torch.arange(4).repeat(500)
        inputs = Inputs(
            (torch.randn(2000, 1, 6),),
            torch.ones(2000, dtype=torch.uint8),
            torch.zeros(2000),
            (torch.zeros(2000).long(),),
        )
        acting = Acting(indices, torch.Generator().manual_seed(0), agent_steps, None)
        network, state = world.learner.network, world.learner.network.initial_state(2000)
        with torch.no_grad():
            action = world.algorithm.act(network, inputs, state, acting).actions[0]
            best = network.step(inputs, state)[0].q_values.argmax(-1)
            greedy = replace(acting, greedy=indices == 3)
            shown = world.algorithm.act(network, inputs, state, greedy).actions[0]
        assert torch.equal(shown[indices == 3], best[indices == 3])
        shares.append([(action != best)[indices == index].float().mean().item() for index in range(4)])
    assert shares[0] == pytest.approx([0.8] * 4, abs=0.06)
    assert shares[1] == pytest.approx([0.44, 0.404, 0.44, 0.6], abs=0.06)
    assert shares[2] == pytest.approx([0.08, 0.008, 0.08, 0.4], abs=0.06)
    assert shares[3] == shares[2]
