"""The queue of unrolls: what comes out against streams kept in lists, order, back-pressure and the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.source import Empty
from seedbed.server.experience.unroll import UnrollLayout
from tests.reference.unrolls import ExpectedUnroll, Streams, complete_unrolls, cut_unroll, numbers_layout

CPU = torch.device("cpu")
NUM_SLOTS = 5


class Scene:
    """A store filled from streams, and a queue."""

    def __init__(self, layout: UnrollLayout, capacity: int, seed: int = 0) -> None:
        self.layout = layout
        self.store = OpenUnrolls(layout, NUM_SLOTS, CPU)
        self.fifo = UnrollFifo(layout, capacity, CPU)
        self.streams = Streams(NUM_SLOTS, seed)

    def fill(self, num_slots: int) -> np.ndarray:
        """Leases the first slots and sends rows until their first unrolls are complete."""
        slots = np.arange(num_slots)
        self.streams.begin(self.store, slots)
        for _ in range(self.layout.num_rows):
            complete = self.streams.step(self.store, slots)
        assert complete.tolist() == slots.tolist()
        return slots


def simple_scene(capacity: int) -> Scene:
    return Scene(numbers_layout(4, 3, 1), capacity)


def eventually(condition: Callable[[], bool]) -> None:
    """Waits for what another thread is about to do."""
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s, "it never happened"
        time.sleep(0.001)


def source_slots(batch: TrainBatch) -> list[int]:
    return [source.slot for source in batch.provenance]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    ("num_rows", "period", "frame_stack", "stagger"),
    [(2, 1, 1, 0), (6, 5, 1, 0), (6, 5, 4, 0), (13, 4, 1, 0), (13, 4, 4, 0), (3, 2, 4, 0), (6, 5, 4, 1)],
)
def test_train_batches_are_those_cut_from_the_raw_streams(
    num_rows: int, period: int, frame_stack: int, stagger: int, batch_size: int
) -> None:
    layout = numbers_layout(num_rows, period, frame_stack, stagger)
    scene = Scene(layout, capacity=2 * NUM_SLOTS, seed=num_rows + period + frame_stack)
    store, fifo, streams = scene.store, scene.fifo, scene.streams
    expected: list[ExpectedUnroll] = []
    num_checked = 0
    for _ in range(100):
        free = [slot for slot in range(NUM_SLOTS) if slot not in streams.open and streams.random.random() < 0.3]
        streams.begin(store, np.array(free, np.int64))
        complete = streams.step(store, streams.some())
        expected += [complete_unrolls(streams.open[slot], layout)[-1] for slot in complete.tolist()]
        assert fifo.put(store, store.provenance(complete)) == len(complete)
        store.complete(complete)
        leaving = np.array([slot for slot in streams.open if streams.random.random() < 0.04], np.int64)
        worth, _ = store.cut(leaving)
        assert fifo.put(store, store.provenance(worth)) == len(worth)
        cuts = {log.slot: cut_unroll(log, layout) for log in streams.end(leaving)}
        expected += [unroll for slot in worth.tolist() if (unroll := cuts[slot]) is not None]
        store.position[leaving] = 0
        while len(fifo) >= batch_size:
            batch = fifo.get(batch_size)
            assert isinstance(batch, TrainBatch)
            for b in range(batch_size):
                expected.pop(0).check(batch, b, layout)
                num_checked += 1
    assert [source for source in fifo.drain()] == [unroll.provenance for unroll in expected]
    assert num_checked > 20
    assert streams.ended


def test_batches_have_time_first_and_stacks_behind() -> None:
    scene = Scene(numbers_layout(6, 5, 4), capacity=4)
    scene.fifo.put(scene.store, scene.store.provenance(scene.fill(2)))
    batch = scene.fifo.get(2)
    assert isinstance(batch, TrainBatch)
    assert batch.observations[0].shape == (6, 2, 4, 3)
    assert batch.fields["reward"].shape == (6, 2)
    assert batch.fields["logits"].shape == (6, 2, 2)
    assert batch.state[0].shape == (2, 3)
    assert batch.valid.shape == (5, 2)


def test_stacks_are_views_of_their_frames_where_none_is_stale() -> None:
    scene = Scene(numbers_layout(6, 5, 4), capacity=4)
    scene.streams = Streams(NUM_SLOTS, 0, end_probability=0.0)
    slots = scene.fill(2)
    views = []
    for _ in range(2):
        scene.fifo.put(scene.store, scene.store.provenance(slots))
        batch = scene.fifo.get(2)
        assert isinstance(batch, TrainBatch)
        views.append([stacks.stride(0) == stacks.stride(2) for stacks in batch.observations[:2]])
        scene.store.complete(slots)
        for _ in range(scene.layout.period):
            scene.streams.step(scene.store, slots)
    assert views == [[False, False], [True, True]], "an episode starts in the first unroll"


def test_first_in_first_out_through_many_turns_of_the_places() -> None:
    scene = simple_scene(capacity=4)
    slots = scene.fill(3)
    put, got = [], []
    for turn in range(20):
        order = np.roll(slots, turn)
        scene.fifo.put(scene.store, scene.store.provenance(order))
        put += order.tolist()
        batch = scene.fifo.get(3)
        assert isinstance(batch, TrainBatch)
        got += source_slots(batch)
        identity = [[float(slot), slot + 1.0] for slot in source_slots(batch)]
        assert batch.observations[0][0, :, 0, :2].tolist() == identity, "the contents are not those of the slots named"
    assert got == put


def test_put_waits_while_the_queue_is_full() -> None:
    scene = simple_scene(capacity=2)
    slots = scene.fill(5)
    results: list[int] = []
    writer = threading.Thread(target=lambda: results.append(scene.fifo.put(scene.store, scene.store.provenance(slots))))
    writer.start()
    eventually(lambda: len(scene.fifo) == 2)
    time.sleep(0.15)  # longer than a turn of its wait
    assert len(scene.fifo) == 2
    assert writer.is_alive()
    got: list[int] = []
    for _ in range(5):
        batch = scene.fifo.get(1)
        assert isinstance(batch, TrainBatch)
        got += source_slots(batch)
        assert batch.observations[0][0, 0, 0, 0] == got[-1]
    writer.join(10)
    assert results == [5]
    assert got == slots.tolist()


def test_get_waits_for_a_whole_batch() -> None:
    scene = simple_scene(capacity=4)
    slots = scene.fill(3)
    results: list[TrainBatch | Empty] = []
    reader = threading.Thread(target=lambda: results.append(scene.fifo.get(3)))
    reader.start()
    scene.fifo.put(scene.store, scene.store.provenance(slots[:2]))
    reader.join(0.05)
    assert reader.is_alive()
    scene.fifo.put(scene.store, scene.store.provenance(slots[2:]))
    reader.join(10)
    assert isinstance(results[0], TrainBatch)
    assert source_slots(results[0]) == [0, 1, 2]


def test_close_wakes_both_sides_and_says_how_many_went_in() -> None:
    scene = simple_scene(capacity=2)
    slots = scene.fill(5)
    results: dict[str, object] = {}
    writer = threading.Thread(
        target=lambda: results.update(put=scene.fifo.put(scene.store, scene.store.provenance(slots)))
    )
    writer.start()
    eventually(lambda: len(scene.fifo) == 2)
    scene.fifo.close()
    writer.join(10)
    assert results == {"put": 2}
    assert scene.fifo.get(1) is Empty.CLOSED
    assert [source.slot for source in scene.fifo.drain()] == [0, 1]

    waiting = simple_scene(capacity=2)
    reader = threading.Thread(target=lambda: results.update(get=waiting.fifo.get(1)))
    reader.start()
    waiting.fifo.close()
    reader.join(10)
    assert results["get"] is Empty.CLOSED


def test_drain_frees_the_places() -> None:
    scene = simple_scene(capacity=3)
    slots = scene.fill(3)
    for _ in range(3):
        assert scene.fifo.put(scene.store, scene.store.provenance(slots)) == 3
        assert [source.slot for source in scene.fifo.drain()] == [0, 1, 2]
        assert len(scene.fifo) == 0


def test_an_unroll_in_the_queue_is_a_copy() -> None:
    scene = simple_scene(capacity=4)
    slots = scene.fill(2)
    scene.fifo.put(scene.store, scene.store.provenance(slots))
    for tensor in (*scene.store.rows.observations, *scene.store.rows.fields.values()):
        tensor.fill_(77)
    for capture in scene.store._captures:
        capture.fill_(77)
    batch = scene.fifo.get(2)
    assert isinstance(batch, TrainBatch)
    for b, slot in enumerate(slots.tolist()):
        complete_unrolls(scene.streams.open[slot], scene.layout)[0].check(batch, b, scene.layout)
