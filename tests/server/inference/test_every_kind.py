"""Several observations, a mask and several actions through a whole server: every array that comes out is the right one.

The algorithm of `tests.reference.every_kind` answers with functions of what it was shown, so each row can be checked
by itself, in a queue and in rounds, across ends of episodes, cuts, resumed leases and withdrawals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seedbed.common.errors import DivergedError
from seedbed.common.timestep import StepType
from seedbed.server.algorithms.acting import Decision
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.networks.observations import to_blocks
from seedbed.server.options.config import NetworkConfig
from tests.reference.acting import Sent, World
from tests.reference.every_kind import FRAME_STACKS, SPEC, EveryKind, check_row, check_state, seen
from tests.reference.rounds import RoundWorld, log_key

NETWORK = NetworkConfig(torso="mlp", core="none", frame_stack=1, precision="float32")
LENGTH = 5


def check_unroll(batch: TrainBatch, b: int, log: list[Sent], num_acted: int) -> None:
    """All rows that were received; `num_acted` of them were answered when the unroll was handed over."""
    source = batch.provenance[b]
    for t in range(source.length):
        check_row(batch, t, b, log)
    check_state(batch, b, log)
    shown = seen(batch_inputs(batch))[:num_acted, b]
    assert torch.equal(shown, batch.fields["seen"][:num_acted, b]), "the network was shown something else"
    steps = [log[source.first_seq + t].step_type for t in range(source.length)]
    assert batch.fields["step_type"][: source.length, b].tolist() == steps
    received = [t + 1 < source.length and steps[t] != StepType.LAST for t in range(LENGTH)]
    assert batch.valid[:, b].tolist() == received


def test_rows_of_a_queue() -> None:
    world = World(
        NETWORK, spec=SPEC, frame_stacks=FRAME_STACKS, make=lambda *_: EveryKind(LENGTH, "queue"), num_slots=7, seed=5
    )
    world.run(120, publish_every=9)
    batches = world.batches()
    sources = [source for batch in batches for source in batch.provenance]
    for batch in batches:
        for b, source in enumerate(batch.provenance):
            check_unroll(batch, b, world.logs[source.lease], source.length)
    assert len(sources) > 80
    assert len({source.lease for source in sources}) > 12, "slots were leased again"
    assert sum(source.length < LENGTH + 1 for source in sources) > 5, "leases ended in mid-unroll"


def test_images_are_stored_in_their_blocks_and_nothing_else_is() -> None:
    world = World(
        NETWORK, spec=SPEC, frame_stacks=FRAME_STACKS, make=lambda *_: EveryKind(LENGTH, "queue"), num_slots=3
    )
    world.run(30)
    batch = world.batches()[0]
    assert [tuple(x.shape[2:]) for x in batch.observations] == [(3, 2, 3, 12), (1, 3), (2, 2, 2), (3,)]
    for b, source in enumerate(batch.provenance):
        for t in range(source.length):
            image = torch.from_numpy(world.logs[source.lease][source.first_seq + t].observations[0])
            assert torch.equal(batch.observations[0][t, b, -1], to_blocks(image[None], 2)[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_action_that_is_not_finite_is_never_sent(value: float) -> None:
    world = World(
        NETWORK, spec=SPEC, frame_stacks=FRAME_STACKS, make=lambda *_: EveryKind(LENGTH, "queue"), num_slots=3
    )
    act = world.algorithm.act

    def diverged(*args: Any) -> Decision:
        decision = act(*args)
        decision.sent[0][1, 0] = value
        return decision

    world.begin(np.arange(3))
    world.step(np.arange(3))
    before = [table.copy() for table in world.slots.actions]
    world.algorithm.act = diverged  # type: ignore[method-assign, assignment]
    with pytest.raises(DivergedError, match=f"expected finite actions, got .{value}"):
        world.step(np.arange(3))
    assert all(np.array_equal(a, b) for a, b in zip(before, world.slots.actions, strict=True))


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_rows_of_rounds_with_clients_that_come_and_go(seed: int) -> None:
    world = RoundWorld(
        NETWORK,
        spec=SPEC,
        frame_stacks=FRAME_STACKS,
        make=lambda *_: EveryKind(LENGTH, "rounds"),
        num_slots=12,
        seed=seed,
    )
    random, checked, resumed = np.random.default_rng(seed), [0, 0], 0

    def check(batch: TrainBatch) -> None:
        for b, source in enumerate(batch.provenance):
            log = world.logs[log_key(source.lease, source.slot)]
            acted = sum(bool(row.actions) for row in log[source.first_seq : source.first_seq + source.length])
            check_unroll(batch, b, log, min(acted, source.length - 1))
            checked[0] += 1
            checked[1] += source.length <= LENGTH

    world.before_update = check
    with world.learning():
        for _ in range(300):
            if random.random() < 0.06 and world.service.leases.used_rows + 2 <= 12:
                world.join(rows=int(random.integers(1, 3)), num_groups=1)
            for client in list(world.clients):
                chance = random.random()
                if chance < 0.004:
                    world.leave(client, goodbye=chance < 0.002)
                elif chance < 0.05:
                    lost = [group for group in client.groups if group.stream >= 0]
                    for group in lost:
                        world.lose(group)
                elif chance < 0.3:
                    resumed += any(group.stream < 0 for group in client.groups)
                    world.reconnect(client)
            world.turn()
            world.now_s += 0.05
    assert checked[0] > 100
    assert checked[1] > 3, "rounds ended early"
    assert resumed > 20
