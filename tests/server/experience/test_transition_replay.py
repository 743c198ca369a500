"""Transitions drawn uniformly: what comes out against streams kept in lists, how often, the ratio, and a restart."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import Counter

import numpy as np
import pytest
import torch

from seedbed.common.errors import UsageError
from seedbed.common.timestep import StepType
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.rate_limiter import RateLimiter
from seedbed.server.experience.source import Empty
from seedbed.server.experience.stored_unrolls import StoredUnrolls
from seedbed.server.experience.transition_replay import TransitionReplay
from seedbed.server.experience.unroll import Provenance, UnrollLayout
from tests.reference.unrolls import ExpectedUnroll, LeaseLog, Streams, complete_unrolls, cut_unroll, numbers_layout

CPU = torch.device("cpu")
NUM_SLOTS = 4


def transitions_layout(period: int, n_step: int, frame_stack: int = 1) -> UnrollLayout:
    """Without an agent state; n - 1 rows of lookahead."""
    layout = numbers_layout(period + n_step, period, frame_stack, trained_rows=range(period))
    return dataclasses.replace(layout, state_specs=())


def make_replay(
    layout: UnrollLayout, capacity: int, *, samples_per_insert: float = 1.0, min_size: int = 1, tolerance: float = 1e9
) -> TransitionReplay:
    limiter = RateLimiter(
        samples_per_insert=samples_per_insert,
        min_size=min_size,
        tolerance=tolerance,
        batch_size=8,
        insert_size=layout.period,
    )
    return TransitionReplay(StoredUnrolls(layout, capacity, CPU), limiter, seed=0)


class Scene:
    """Streams whose unrolls go into a replay, and every transition of which it is known where it must be found.

    Attributes:
        expected: unrolls in the order in which they went in.
    """

    def __init__(self, layout: UnrollLayout, seed: int = 0) -> None:
        self.layout = layout
        self.store = OpenUnrolls(layout, NUM_SLOTS, CPU)
        self.streams = Streams(NUM_SLOTS, seed)
        self.expected: list[ExpectedUnroll] = []

    def turn(self, replay: TransitionReplay) -> None:
        """Some slots step, some leases begin and end."""
        streams, store = self.streams, self.store
        free = [slot for slot in range(NUM_SLOTS) if slot not in streams.open and streams.random.random() < 0.3]
        streams.begin(store, np.array(free, np.int64))
        complete = streams.step(store, streams.some())
        self.expected += [complete_unrolls(streams.open[slot], self.layout)[-1] for slot in complete.tolist()]
        replay.put(store, store.provenance(complete))
        store.complete(complete)
        leaving = np.array([slot for slot in streams.open if streams.random.random() < 0.05], np.int64)
        worth, _ = store.cut(leaving)
        replay.put(store, store.provenance(worth))
        cuts = {log.slot: cut_unroll(log, self.layout) for log in streams.end(leaving)}
        self.expected += [unroll for slot in worth.tolist() if (unroll := cuts[slot]) is not None]
        store.position[leaving] = 0

    def valid(self, last: int) -> dict[tuple[int, int], ExpectedUnroll]:
        """(lease, number) of every transition that may be drawn from the last so many unrolls."""
        return {
            (unroll.log.serial, unroll.start + t): unroll
            for unroll in self.expected[-last:]
            for t in range(min(self.layout.period, unroll.length - 1))
            if unroll.log.rows[unroll.start + t].step_type != StepType.LAST
        }


def check_window(batch: TrainBatch, b: int, log: LeaseLog, unroll: ExpectedUnroll, layout: UnrollLayout) -> None:
    """Rows t .. t + n of the lease that sent them; what never came or leads from LAST is not valid."""
    source, num_rows = batch.provenance[b], layout.num_rows - layout.period + 1
    length = min(num_rows, unroll.start + unroll.length - source.first_seq)
    assert source == Provenance(log.slot, log.serial, 100 + log.slot, source.first_seq, length)
    assert batch.fields["reward"].shape[0] == num_rows
    for row in range(length):
        seq = source.first_seq + row
        for array, frame_stack in enumerate(layout.frame_stacks):
            assert batch.observations[array][row, b].tolist() == log.stack(seq, frame_stack, array)
        for name, value in log.rows[seq].values.items():
            assert batch.fields[name][row, b].tolist() == value, name
    steps = [log.rows[source.first_seq + row].step_type for row in range(length)]
    valid = [row + 1 < length and steps[row] != StepType.LAST for row in range(num_rows - 1)]
    assert batch.valid[:, b].tolist() == valid
    assert valid[0]


@pytest.mark.parametrize(
    ("period", "n_step", "frame_stack"), [(1, 1, 1), (4, 1, 1), (4, 1, 4), (5, 3, 1), (3, 5, 2), (1, 4, 1)]
)
def test_every_draw_is_a_valid_transition_with_the_rows_behind_it(period: int, n_step: int, frame_stack: int) -> None:
    layout = transitions_layout(period, n_step, frame_stack)
    scene, replay = Scene(layout, seed=10 * period + n_step), make_replay(layout, 9)
    cut_lookahead = 0
    for _ in range(120):
        scene.turn(replay)
        replay.check_valid()
        valid = scene.valid(last=9)
        assert replay.metrics()["replay_transitions"] == len(valid)
        if valid:
            batch = replay.sample(8)
            assert batch.trained_rows == range(1)
            assert batch.num_transitions == batch.num_valid == 8
            assert batch.sample is not None
            assert torch.equal(batch.sample.weights, torch.ones(8))
            for b, source in enumerate(batch.provenance):
                unroll = valid[source.lease, source.first_seq]
                check_window(batch, b, unroll.log, unroll, layout)
                cut_lookahead += source.length <= n_step
    assert len(scene.expected) > 45, "the places were turned over several times"
    assert n_step == 1 or cut_lookahead > 0
    drawn_once = [key for unroll in scene.expected for key in keys(unroll, layout)]
    assert len(drawn_once) == len(set(drawn_once)), "a transition belongs to one unroll"


def keys(unroll: ExpectedUnroll, layout: UnrollLayout) -> list[tuple[int, int]]:
    return [(unroll.log.serial, unroll.start + t) for t in range(min(layout.period, unroll.length - 1))]


@pytest.mark.parametrize(("period", "n_step"), [(6, 1), (4, 3)])
def test_valid_transitions_are_drawn_equally_often(period: int, n_step: int) -> None:
    """Of unrolls of all lengths, with episodes that end in them: chi-square, beyond the 1 - 1e-4 quantile refused."""
    layout = transitions_layout(period, n_step)
    scene, replay = Scene(layout, seed=2), make_replay(layout, 30)
    for _ in range(100):
        scene.turn(replay)
    valid = scene.valid(last=30)
    assert sum(unroll.length < layout.num_rows for unroll in scene.expected[-30:]) >= 3, "cut ones are among them"
    assert {sum(key in valid for key in keys(unroll, layout)) for unroll in scene.expected[-30:]} >= {1, 3, 4}
    counts: Counter[tuple[int, int]] = Counter()
    num_draws = 400 * len(valid)
    for _ in range(num_draws // 50):
        counts.update((source.lease, source.first_seq) for source in replay.sample(50).provenance)
    assert set(counts) == set(valid)
    expected = counts.total() / len(valid)
    statistic = sum((counts[key] - expected) ** 2 / expected for key in valid)
    freedom = len(valid) - 1
    assert statistic < freedom + 3.8 * (2 * freedom) ** 0.5
    assert statistic > 0.05 * freedom, "draws are random, not dealt out in turn"


def test_the_ratio_of_transitions_is_kept_over_a_long_run() -> None:
    """Unrolls bring from none to `period` valid transitions, and each counts."""
    layout = transitions_layout(4, 1)
    scene = Scene(layout, seed=1)
    replay = make_replay(layout, 60, samples_per_insert=3.0, min_size=30, tolerance=40.0)

    def read() -> None:
        while replay.get(8) is not Empty.CLOSED:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(900):
        scene.turn(replay)
    replay.close()
    reader.join(10)
    inserts, samples = replay._limiter.inserts, replay._limiter.samples
    assert inserts == len(scene.valid(last=len(scene.expected))) > 1200
    assert samples / (inserts - 30) == pytest.approx(3.0, rel=0.01)


def test_unrolls_without_a_valid_transition_are_waited_out() -> None:
    """Where LAST and FIRST alternate, and one that can be drawn among them."""
    layout = transitions_layout(1, 1)
    store, replay = OpenUnrolls(layout, 1, CPU), make_replay(layout, 2)
    streams, slot = Streams(1, 0, end_probability=1.0), np.array([0])
    streams.begin(store, slot)
    found = []
    for _ in range(8):
        complete = streams.step(store, slot)
        replay.put(store, store.provenance(complete))
        store.complete(complete)
        replay.check_valid()
        found.append(replay._num_valid)
        batch = replay.get(4, timeout_s=0.0)
        assert isinstance(batch, TrainBatch) == (replay._num_valid > 0)
    assert found == [0, 1, 1, 1, 1, 1, 1, 1]
    replay.put(store, [dataclasses.replace(source, length=1) for source in store.provenance(np.array([0, 0]))])
    assert replay._num_valid == 0
    assert replay.get(4, timeout_s=0.01) is Empty.NOT_YET


def test_a_state_restored_draws_what_the_original_draws() -> None:
    layout = transitions_layout(4, 2)
    scene, one, two = Scene(layout, seed=3), make_replay(layout, 12), make_replay(layout, 12)
    for _ in range(40):
        scene.turn(one)
    one.sample(8)
    for name, tensor in two.tensors.items():
        tensor.copy_(one.tensors[name])
    two.set_state(json.loads(json.dumps(one.get_state())))
    two.check_valid()
    assert one.metrics() == {**two.metrics(), "replay_batches_redrawn": one.num_redrawn}
    for _ in range(5):
        ours, theirs = one.sample(8), two.sample(8)
        assert list(ours.provenance) == list(theirs.provenance)
        for a, b in zip(ours.observations, theirs.observations, strict=True):
            assert torch.equal(a, b)
        assert torch.equal(ours.valid, theirs.valid)
    unrolls = scene.store.provenance(np.arange(2))
    one.put(scene.store, unrolls)
    two.put(scene.store, unrolls)
    assert one.get_state() == two.get_state()


def test_two_threads_at_full_speed_never_see_a_torn_window() -> None:
    layout = transitions_layout(12, 3)
    store, streams = OpenUnrolls(layout, NUM_SLOTS, CPU), Streams(NUM_SLOTS, 0)
    slots = np.arange(NUM_SLOTS)
    streams.begin(store, slots)
    for _ in range(layout.num_rows):
        streams.step(store, slots)
    replay, unrolls, stop = make_replay(layout, 3), store.provenance(slots), threading.Event()
    replay.insert(store, unrolls[:3])

    def write() -> None:
        while not stop.is_set():
            for unroll in unrolls:
                replay.insert(store, [unroll])
                stop.wait(0.0002)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            batch = replay.sample(2)
            for b, source in enumerate(batch.provenance):
                log = streams.open[source.slot]
                check_window(batch, b, log, ExpectedUnroll(log, 0, layout.num_rows), layout)
    finally:
        stop.set()
        writer.join(10)
    replay.check_valid()


def test_what_is_overwritten_after_it_was_drawn_is_drawn_again() -> None:
    """Before the replay looks what is there: the weight was that of an unroll which is gone."""
    layout = transitions_layout(4, 1)
    scene, replay = Scene(layout), make_replay(layout, 1)
    while not len(replay):
        scene.turn(replay)
    draw, (source,) = replay._draw, scene.store.provenance(np.array([0]))

    def late(batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = draw(batch_size)
        replay._draw = draw  # type: ignore[method-assign]
        replay.insert(scene.store, [dataclasses.replace(source, length=1)])  # nothing to be drawn
        replay.insert(scene.store, [dataclasses.replace(source, length=2)])
        return drawn

    scene.store.rows.fields["step_type"][0] = StepType.MID
    replay._draw = late  # type: ignore[method-assign]
    batch = replay.sample(3)
    assert replay.num_redrawn == 1
    assert batch.valid.all()
    assert {source.first_seq for source in batch.provenance} == {source.first_seq}


def test_an_agent_state_is_refused() -> None:
    with pytest.raises(UsageError, match="--core none where single transitions are drawn"):
        make_replay(numbers_layout(5, 4, 1), 3)


def test_there_are_no_priorities_to_be_updated() -> None:
    layout = transitions_layout(4, 1)
    scene, replay = Scene(layout), make_replay(layout, 12)
    for _ in range(20):
        scene.turn(replay)
    with pytest.raises(NotImplementedError, match="drawn uniformly"):
        replay.update_priorities(replay.sample(4), torch.ones(4))
