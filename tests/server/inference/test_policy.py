"""What inference answers and what it remembers: the learner, given the unroll, must compute the same numbers.

All runs mix slots out of step, episode ends in mid-unroll and leases that end while others go on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from seedbed.common.timestep import StepType
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.networks.interface import Inputs, PolicyNetwork
from seedbed.server.options.network import NetworkConfig
from seedbed.server.shared.indices import INDEX_STRIDE
from tests.reference.acting import IMAGE, VECTOR, World

NETWORKS = {
    "mlp": (NetworkConfig(torso="mlp", core="none", frame_stack=1, precision="float32"), VECTOR),
    "mlp, stacked": (NetworkConfig(torso="mlp", core="none", frame_stack=3, precision="float32"), VECTOR),
    "lstm": (NetworkConfig(torso="mlp", core="lstm", core_size=16, frame_stack=1, precision="float32"), VECTOR),
    "gtrxl": (
        NetworkConfig(torso="mlp", core="gtrxl", core_size=16, core_memory=4, frame_stack=1, precision="float32"),
        VECTOR,
    ),
    "conv": (NetworkConfig(torso="impala_shallow", core="none", frame_stack=4, precision="float32"), IMAGE),
    "conv, lstm": (
        NetworkConfig(torso="impala_shallow", core="lstm", core_size=16, frame_stack=4, precision="float32"),
        IMAGE,
    ),
}


def make_world(name: str, seed: int = 0) -> World:
    network, observation = NETWORKS[name]
    return World(network, observation=observation, seed=seed)


def log_rhos(network: PolicyNetwork, batch: TrainBatch) -> Tensor:
    """Learnt against recorded probability of each action on a valid row, `[M]`."""
    with torch.no_grad():
        outputs, _ = network.unroll(batch_inputs(batch), batch.state)
    action, behaviour = batch.fields["action.action"][:-1], batch.fields["behaviour"][:-1]
    learnt, acted = (Categorical(logits=logits).log_prob(action) for logits in (outputs.policy[:-1], behaviour))
    return (learnt - acted)[batch.valid]


def covers_everything(batches: list[TrainBatch]) -> bool:
    """Whether the run met what it is for: episode ends in mid-unroll, cuts, second holders of a slot."""
    sources = [source for batch in batches for source in batch.provenance]
    ends = any((batch.fields["step_type"][1:-1] == StepType.LAST)[batch.valid[1:]].any() for batch in batches) or any(
        ((batch.fields["step_type"][1:-1] == StepType.FIRST) & batch.valid[1:]).any() for batch in batches
    )
    short = any(source.length < batches[0].fields["reward"].shape[0] for source in sources)
    return bool(ends) and short and len({source.lease for source in sources}) > len({source.slot for source in sources})


@pytest.mark.parametrize("name", NETWORKS)
def test_the_learner_computes_the_logits_that_were_sampled_from(name: str) -> None:
    world = make_world(name)
    world.run(100)
    batches = world.batches()
    assert covers_everything(batches)
    ratios = torch.cat([log_rhos(world.learner.network, batch) for batch in batches])
    assert len(ratios) > 200
    assert ratios.abs().max() < 1e-4
    spread = torch.cat([batch.fields["behaviour"].flatten(0, 1) for batch in batches]).std(0)
    assert (spread > 0.01).all(), "logits that hardly differ from row to row would prove nothing"


@pytest.mark.parametrize("core", ["none", "lstm"])
def test_a_bfloat16_torso_stays_close(
    core: Literal["none", "lstm"], record_property: Callable[[str, object], None]
) -> None:
    network = NetworkConfig(torso="impala_shallow", core=core, core_size=16, frame_stack=4, precision="bfloat16")
    world = World(network, observation=IMAGE)
    world.run(60)
    ratios = torch.cat([log_rhos(world.learner.network, batch) for batch in world.batches()]).abs()
    record_property("mean_abs_log_rho", float(ratios.mean()))
    assert ratios.mean() < 1e-2


def step_through(networks: dict[int, PolicyNetwork], batch: TrainBatch, b: int) -> list[Tensor]:
    """Logits of unroll b, each row computed alone by the network of the version that acted on it."""
    inputs, logits = batch_inputs(batch), []
    state = tuple(part[b : b + 1] for part in batch.state)
    for t in range(batch.provenance[b].length):
        row = Inputs(
            tuple(x[t, b : b + 1] for x in inputs.observations),
            inputs.step_type[t, b : b + 1],
            inputs.reward[t, b : b + 1],
            (inputs.last_action[0][t, b : b + 1],),
        )
        with torch.no_grad():
            outputs, state = networks[int(batch.fields["policy_version"][t, b])].step(row, state)
        logits.append(outputs.policy[0])
    return logits


@pytest.mark.parametrize("name", ["mlp", "lstm", "gtrxl", "conv"])
def test_the_recorded_version_is_the_one_whose_weights_give_the_recorded_logits(name: str) -> None:
    """New versions arrive in mid-unroll; the agent state that enters an unroll is theirs, whoever made it."""
    world = make_world(name, seed=1)
    networks: dict[int, PolicyNetwork] = {0: copy.deepcopy(world.learner.network)}
    for _ in range(12):
        world.run(5)
        world.publish()
        networks[world.learner.num_updates] = copy.deepcopy(world.learner.network)
    mixed = 0
    for batch in world.batches():
        for b, source in enumerate(batch.provenance):
            recorded = batch.fields["behaviour"][: source.length, b]
            torch.testing.assert_close(torch.stack(step_through(networks, batch, b)), recorded, atol=1e-5, rtol=1e-5)
            mixed += len(batch.fields["policy_version"][: source.length, b].unique()) > 1
    assert mixed > 10


@pytest.mark.parametrize("name", ["mlp, stacked", "conv, lstm"])
def test_every_row_holds_what_was_sent_and_what_was_answered(name: str) -> None:
    world = make_world(name, seed=2)
    world.run(80, publish_every=7)
    num_rows = 0
    for batch in world.batches():
        for b, source in enumerate(batch.provenance):
            assert source.environment_index == 100 + source.slot
            for t in range(source.length):
                log = world.logs[source.lease]
                sent = log[source.first_seq + t]
                fields = {key: value[t, b].item() for key, value in batch.fields.items() if value.dim() == 2}
                assert fields["reward"] == sent.reward
                assert fields["discount"] == sent.discount
                assert fields["step_type"] == sent.step_type
                assert fields["action.action"] == sent.action
                assert fields["policy_version"] == sent.version
                first = sent.step_type == StepType.FIRST
                assert fields["last_action.action"] == (0 if first else log[source.first_seq + t - 1].action)
                assert (fields["age"] == 0) == first
                assert np.array_equal(batch.observations[0][t, b, -1].numpy(), sent.observation)
                num_rows += 1
    assert num_rows > 200


def test_agent_steps_are_the_answered_rows_that_are_not_last() -> None:
    world = make_world("mlp")
    world.run(50)
    sent = [row for log in world.logs.values() for row in log]
    assert world.inference.num_steps == sum(row.step_type != StepType.LAST for row in sent) < len(sent)


def test_what_the_actors_send_next_does_not_reach_what_is_remembered() -> None:
    """Once the actions are out, a frontend may fill the rows with the next timestep at any moment."""
    plain, hasty = make_world("lstm"), make_world("lstm")
    slots = np.arange(4)
    for world in (plain, hasty):
        world.begin(slots)
        for slot in slots.tolist():
            world._send(slot)
    answers = [world.inference.act(slots) for world in (plain, hasty)]
    for array in (*hasty.slots.observations, hasty.slots.reward, hasty.slots.discount):
        array[...] = 77
    hasty.slots.step_type[:] = StepType.LAST
    for world, answered in zip((plain, hasty), answers, strict=True):
        world.inference.remember(answered)
    assert plain.inference.num_steps == hasty.inference.num_steps == 4
    assert torch.equal(plain.store.rows.observations[0], hasty.store.rows.observations[0])
    for name, tensor in plain.store.rows.fields.items():
        assert torch.equal(tensor, hasty.store.rows.fields[name]), name


def test_equal_seeds_give_equal_runs_and_the_random_state_goes_on() -> None:
    def actions(world: World) -> list[int]:
        return [row.action for log in world.logs.values() for row in log]

    one, two, other = make_world("lstm"), make_world("lstm"), make_world("lstm")
    one.run(30)
    two.run(30)
    other.inference.random_state = torch.Generator().manual_seed(99).get_state()
    other.run(30)
    assert actions(one) == actions(two) != actions(other)
    assert torch.equal(one.inference.random_state, two.inference.random_state)


def test_actions_are_drawn_from_the_logits() -> None:
    world = World(NETWORKS["mlp"][0], num_slots=200, seed=3)
    slots = np.arange(200)
    world.begin(slots)
    expected, drawn = torch.zeros(5), torch.zeros(5)
    for _ in range(30):
        for slot in slots.tolist():
            world._send(slot)
        decision = world.inference.act(slots).decision
        expected += decision.recorded["behaviour"].softmax(-1).sum(0)
        drawn += torch.bincount(decision.actions[0], minlength=5)
        assert torch.equal(torch.from_numpy(world.slots.actions[0]), decision.actions[0])
    standard_deviation = (expected * (1 - expected / 6000)).sqrt()
    assert ((drawn - expected).abs() < 4 * standard_deviation).all()


def test_greedy_takes_the_best_action() -> None:
    world = World(NETWORKS["mlp"][0], num_slots=200, seed=3, greedy_environments=range(150, 300))
    slots = np.arange(200)
    world.begin(slots)
    for slot in slots.tolist():
        world._send(slot)
    decision = world.inference.act(slots).decision
    best = decision.recorded["behaviour"].argmax(-1)
    assert torch.equal(decision.actions[0][50:], best[50:]), "the environment of slot s is 100 + s"
    assert not torch.equal(decision.actions[0][:50], best[:50])


def test_what_greedy_environments_do_is_shown_and_not_learnt_from() -> None:
    world = World(NETWORKS["mlp"][0], greedy_environments=range(103, 106))
    world.run(60)
    assert {source.environment_index for batch in world.batches() for source in batch.provenance} == {100, 101, 102}
    account = world.collector.account
    assert account.shown > 50
    received = sum(max(0, len(log) - 1) for log in world.logs.values())
    assert account.queued + account.shown + world.collector.open_transitions() + account.dropped == received


def test_what_acts_and_learns_knows_places_within_its_replica() -> None:
    """Ladders of exploration and greedy environments begin anew in each: indices tell environments apart, and seeds."""
    world = World(NETWORKS["mlp"][0], greedy_environments=range(2, 4))
    world.inference._first_index = INDEX_STRIDE
    slots = np.arange(4)
    world.inference.begin(slots, 1, [INDEX_STRIDE + place for place in range(4)])
    assert world.inference._environment[slots].tolist() == [0, 1, 2, 3]
    assert world.inference._greedy[slots].tolist() == [False, False, True, True]
