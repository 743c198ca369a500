"""The synchronous loop with a real policy and a real learner: lag 0, no step lost, nobody waits for ever.

The learner itself refuses a batch that other parameters than its newest acted (`Learner.update`); here every batch is
looked at as well: its rows are those that were sent, and its logits those that the learner computes.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from seedbed.common.timestep import StepType
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.options.network import NetworkConfig
from tests.reference.rounds import GRACE_S, PATIENCE_S, Client, RoundWorld, log_key
from tests.server.inference.test_policy import log_rhos

LSTM = NetworkConfig(torso="mlp", core="lstm", core_size=16, frame_stack=3, precision="float32")
MLP = NetworkConfig(torso="mlp", core="none", frame_stack=1, precision="float32")


def check_batch(world: RoundWorld, batch: TrainBatch) -> None:
    """Just before it is learnt from."""
    assert log_rhos(world.learner.network, batch).abs().max() < 1e-4
    for b, source in enumerate(batch.provenance):
        log = world.logs[log_key(source.lease, source.slot)]
        for t in range(source.length):
            sent = log[source.first_seq + t]
            assert np.array_equal(batch.observations[0][t, b, -1].numpy(), sent.observation)
            assert batch.fields["reward"][t, b] == sent.reward
            assert batch.fields["step_type"][t, b] == sent.step_type
            assert batch.fields["age"][t, b] == steps_since_first([row.step_type for row in log], source.first_seq + t)
            if t and sent.step_type != StepType.FIRST:
                assert batch.fields["last_action.action"][t, b] == batch.fields["action.action"][t - 1, b]


def steps_since_first(step_types: list[int], t: int) -> int:
    return next(age for age in itertools.count() if step_types[t - age] == StepType.FIRST)


def slots_of(batch: TrainBatch) -> list[int]:
    return sorted(source.slot for source in batch.provenance)


def lengths(batch: TrainBatch) -> set[int]:
    return {source.length for source in batch.provenance}


def test_a_batch_is_one_unroll_of_every_environment_and_begins_where_the_last_one_ended() -> None:
    world = RoundWorld(LSTM)
    world.before_update = lambda batch: check_batch(world, batch)
    with world.learning():
        world.join(rows=2)
        world.join(rows=1)
        for _ in range(120):
            world.turn()
    steady = world.trained[3:]
    assert len(steady) > 5
    assert all(slots_of(batch) == [0, 1, 2, 3, 4, 5] for batch in steady)
    assert all(lengths(batch) == {6} for batch in steady)
    for before, after in itertools.pairwise(steady):
        starts = [{source.slot: source.first_seq for source in batch.provenance} for batch in (before, after)]
        assert all(starts[1][slot] == first + 5 for slot, first in starts[0].items())


def test_replies_of_complete_unrolls_wait_for_the_update_and_no_others_do() -> None:
    world = RoundWorld(MLP)
    answered: list[list[bool]] = []

    def before_update(batch: TrainBatch) -> None:
        answered.append((world.slots.answered_seq == world.slots.accepted_seq)[[0, 1]].tolist())

    world.before_update = before_update
    with world.learning():
        world.join(rows=1)
        for _ in range(80):
            world.turn()
    assert len(answered) > 6
    assert not any(any(both) for both in answered)
    for key in (log_key(1, 0), log_key(2, 1)):  # T = 5; the first group began a round alone, which its sibling ended
        versions = [row.version for row in world.logs[key] if row.version > 0]
        assert versions[:30] == [version for version in range(1, 7) for _ in range(5)]


def test_a_newcomer_waits_for_the_next_round() -> None:
    world = RoundWorld(MLP)
    with world.learning():
        world.join(rows=2, num_groups=1)
        for _ in range(3):
            world.turn()
        world.join(rows=1, num_groups=1)
        for _ in range(20):
            world.turn()
    assert [slots_of(batch) for batch in world.trained[:3]] == [[0, 1], [0, 1, 2], [0, 1, 2]]
    assert all(lengths(batch) == {6} for batch in world.trained)


@pytest.mark.parametrize("turns", range(2, 9))
def test_a_lost_connection_holds_nobody_up_and_comes_back_into_a_later_round(turns: int) -> None:
    """Cut at any place of a round, one group of a client or both."""
    world = RoundWorld(LSTM, seed=turns)
    world.before_update = lambda batch: check_batch(world, batch)
    with world.learning():
        world.join(rows=1)
        unlucky = world.join(rows=2)
        for _ in range(20 + turns):
            world.turn()
        for group in unlucky.groups[turns % 2 :]:
            world.lose(group)
        before = world.learner.num_updates
        for _ in range(30):
            world.turn()
        assert world.learner.num_updates > before + 2
        world.reconnect(unlucky)
        for _ in range(40):
            world.turn()
        assert slots_of(world.trained[-1]) == [0, 1, 2, 3, 4, 5]
        assert lengths(world.trained[-1]) == {6}


def test_a_frozen_client_costs_its_patience_once() -> None:
    world = RoundWorld(LSTM)
    world.before_update = lambda batch: check_batch(world, batch)
    with world.learning():
        world.join(rows=1)
        frozen = world.join(rows=1)
        for _ in range(24):
            world.turn()
        frozen.frozen = True
        for _ in range(20):
            world.turn()
        stuck = world.learner.num_updates
        world.turn()
        assert world.learner.num_updates == stuck
        world.now_s += PATIENCE_S
        for _ in range(40):
            world.turn()
        assert world.learner.num_updates > stuck + 3, "and then nobody waits for it any more"
        assert slots_of(world.trained[-1]) == [0, 1]
        frozen.frozen = False
        for _ in range(40):
            world.turn()
        assert slots_of(world.trained[-1]) == [0, 1, 2, 3]


def test_a_request_that_waits_for_the_company_of_a_frozen_client_is_answered_in_the_next_round() -> None:
    world = RoundWorld(MLP, max_wait_s=100 * PATIENCE_S)
    world.before_update = lambda batch: check_batch(world, batch)
    with world.learning():
        world.join(rows=1, num_groups=1)
        frozen = world.join(rows=1, num_groups=1)
        for _ in range(25):
            world.turn()
        assert slots_of(world.trained[-1]) == [0, 1]
        while world.service._position[0] != 2:  # in the midst of a round
            world.turn()
        frozen.frozen = True
        for _ in range(3):
            world.turn()
        assert 0 in world.service._batcher, "this is what the test is about"
        before = world.learner.num_updates
        world.now_s += PATIENCE_S
        for _ in range(20):
            world.turn()
        assert world.learner.num_updates > before + 2
        assert slots_of(world.trained[-1]) == [0]


def test_clients_that_end_leave_what_they_have_and_the_others_go_on() -> None:
    world = RoundWorld(MLP)
    with world.learning():
        world.join(rows=1)
        polite, killed = world.join(rows=1), world.join(rows=1)
        for _ in range(23):
            world.turn()
        world.leave(polite, goodbye=True)
        world.leave(killed, goodbye=False)
        for _ in range(20):
            world.turn()
        assert slots_of(world.trained[-1]) == [0, 1]
        world.now_s += GRACE_S
        for _ in range(20):
            world.turn()
        assert world.service.leases.used_rows == 2
        assert slots_of(world.trained[-1]) == [0, 1]


def test_when_the_last_client_has_gone_the_next_one_begins_anew() -> None:
    world = RoundWorld(MLP)
    with world.learning():
        world.leave(_after(world, world.join(rows=2), 17), goodbye=True)
        for _ in range(5):
            world.turn()
        before = len(world.trained)
        world.join(rows=1)
        for _ in range(30):
            world.turn()
        assert len(world.trained) > before + 2


def _after(world: RoundWorld, client: Client, turns: int) -> Client:
    for _ in range(turns):
        world.turn()
    return client


def test_a_closed_queue_ends_the_wait() -> None:
    """As at shutdown, or when the learner has failed: the inference thread goes on; what it hands over is dropped."""
    world = RoundWorld(MLP)
    with world.learning():
        world.join(rows=1)
        for _ in range(12):
            world.turn()
        world.fifo.close()
        steps = world.inference.num_steps
        for _ in range(40):
            world.turn()
        assert world.inference.num_steps > steps + 20
        assert world.collector.account.dropped > 0


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_whoever_comes_goes_dies_and_freezes(seed: int) -> None:
    """Random adversity; in the end every transition is accounted for, and learning went on all the time."""
    world = RoundWorld(LSTM, seed=seed, num_slots=16)
    world.before_update = lambda batch: check_batch(world, batch)
    random = np.random.default_rng(seed)
    with world.learning():
        for _ in range(400):
            if random.random() < 0.05 and world.service.leases.used_rows + 4 <= 16:
                world.join(rows=int(random.integers(1, 3)), num_groups=int(random.integers(1, 3)))
            for client in list(world.clients):
                match random.choice(
                    ["leave", "kill", "lose", "reconnect", "freeze", "thaw", "nothing"],
                    p=[0.003, 0.003, 0.01, 0.1, 0.003, 0.05, 0.831],
                ):
                    case "leave" | "kill" as how:
                        world.leave(client, goodbye=how == "leave")
                    case "lose":
                        live = [group for group in client.groups if group.stream >= 0]
                        for group in live[: int(random.integers(1, 3))]:
                            world.lose(group)
                    case "reconnect":
                        world.reconnect(client)
                    case "freeze" | "thaw" as what:
                        client.frozen = what == "freeze"
            world.turn()
            world.now_s += 0.05
        for client in world.clients:
            world.reconnect(client)
            client.frozen = False
        world.join(rows=1)
        before = world.learner.num_updates
        for _ in range(60):
            world.turn()
            world.now_s += 0.2
        assert world.learner.num_updates > before + 2, "no round hangs"
    assert world.learner.num_updates > 20
    assert any(len(lengths(batch)) > 1 for batch in world.trained), "some unrolls ended early: else nothing was tested"
    world.service.end_all()
    world.collector.finish()
    world.loop.take_metrics()
    account, seen = world.collector.account, world.loop.trained
    masked = sum(int(sum(s.length - 1 for s in batch.provenance) - batch.valid.sum()) for batch in world.trained)
    assert account.queued == seen + masked
    trained = [
        (source.lease, source.slot, source.first_seq + t)
        for batch in world.trained
        for source in batch.provenance
        for t in range(source.length - 1)
    ]
    assert len(set(trained)) == len(trained) == account.queued, "no transition twice"
    lost = world.received() - account.queued - account.dropped
    assert 0 <= lost <= len(world.logs), "but for the last request of each environment, which may be on its way"
    assert torch.isfinite(torch.cat([p.flatten() for p in world.learner.network.parameters()])).all()
