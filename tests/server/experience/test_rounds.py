"""The hand-over between two threads that take turns, and unrolls that restart at any row."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from seedbed.common.timestep import StepType
from seedbed.server.experience.batch import TrainBatch, valid_transitions
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.rounds import RoundCollector, RoundFifo
from tests.reference.unrolls import ExpectedUnroll, Streams, numbers_layout

CPU = torch.device("cpu")
SLOTS = np.arange(3)


class Scene:
    """Three slots in step, and everything behind them."""

    def __init__(self, num_rows: int = 4, frame_stack: int = 1) -> None:
        self.layout = numbers_layout(num_rows, num_rows - 1, frame_stack)
        self.store = OpenUnrolls(self.layout, 3, CPU)
        self.fifo = RoundFifo(self.layout, 3, CPU)
        self.collector = RoundCollector(self.store, self.fifo)
        self.streams = Streams(3, seed=0)
        self.streams.begin(self.store, SLOTS)

    def batch(self) -> TrainBatch:
        """All that waits."""
        batch = UnrollFifo.get(self.fifo, len(self.fifo))
        assert batch is not None
        return batch


def test_learn_returns_when_the_learner_asks_again_not_when_it_takes() -> None:
    scene, tape = Scene(), list[str]()
    may_update = threading.Event()

    def learner() -> None:
        while (batch := scene.fifo.get(99)) is not None:
            tape.append(f"take {len(batch.provenance)}")
            may_update.wait(10)
            tape.append("publish")

    thread = threading.Thread(target=learner, daemon=True)
    for _ in range(2):  # before the learner has ever asked
        scene.streams.step(scene.store, SLOTS)
    scene.collector.withdraw(SLOTS)

    def act() -> None:
        scene.collector.learn()
        tape.append("go on")

    waiting = threading.Thread(target=act, daemon=True)
    waiting.start()
    thread.start()
    waiting.join(0.3)
    assert tape == ["take 3"]
    may_update.set()
    waiting.join(10)
    assert tape == ["take 3", "publish", "go on"]
    scene.collector.learn()  # nothing to learn from: no wait
    scene.fifo.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_closed_queue_lets_both_go() -> None:
    scene = Scene()
    for _ in range(2):
        scene.streams.step(scene.store, SLOTS)
    scene.collector.withdraw(SLOTS)
    waiting = threading.Thread(target=scene.collector.learn, daemon=True)
    waiting.start()
    scene.fifo.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert scene.fifo.get(1) is None


@pytest.mark.parametrize("frame_stack", [1, 4])
@pytest.mark.parametrize("num_rows_before", [1, 2, 3])
def test_unrolls_after_a_withdrawal_are_those_of_the_raw_stream(num_rows_before: int, frame_stack: int) -> None:
    """State, frames before row 0 and numbers are those of the row that comes; the step between is in no unroll."""
    scene = Scene(frame_stack=frame_stack)
    for _ in range(num_rows_before):
        scene.streams.step(scene.store, SLOTS)  # checks every stack, those after the restart too
    scene.collector.withdraw(SLOTS)
    assert len(scene.fifo) == (0 if num_rows_before == 1 else 3)
    if len(scene.fifo):
        scene.batch()
    scene.collector.rejoin(SLOTS)
    for _ in range(3):
        assert scene.streams.step(scene.store, SLOTS).tolist() == []
    scene.collector.withdraw(SLOTS)
    batch = scene.batch()
    for b, slot in enumerate(SLOTS.tolist()):
        ExpectedUnroll(scene.streams.open[slot], num_rows_before, 3).check(batch, b, scene.layout)
    account = scene.collector.account
    assert (account.queued, account.dropped) == (3 * (num_rows_before - 1 + 2), 3)


@pytest.mark.parametrize("frame_stack", [1, 4])
@pytest.mark.parametrize("lengths", [(3, 3, 3), (1, 3, 2, 3), (2, 1, 1, 3)])
def test_a_held_row_ends_one_unroll_and_begins_the_next(lengths: tuple[int, ...], frame_stack: int) -> None:
    """T = 3 answered rows, or fewer where a round ended early; no transition is lost or counted twice."""
    scene = Scene(frame_stack=frame_stack)
    start = 0
    for length in lengths:
        for _ in range(length):
            assert scene.streams.step(scene.store, SLOTS).tolist() == []
        scene.streams.hold(scene.store, SLOTS)
        scene.collector.close(SLOTS)
        batch = scene.batch()
        for b, slot in enumerate(SLOTS.tolist()):
            log = scene.streams.open[slot]
            assert batch.provenance[b] == ExpectedUnroll(log, start, length + 1).provenance
            ExpectedUnroll(log, start, length).check(cut_to(batch, length), b, scene.layout)
            last = scene.streams._held[slot]
            assert batch.observations[0][length, b, -1].tolist() == last.observation
            for name in ("step_type", "reward", "discount", "last_action.action", "age"):
                assert batch.fields[name][length, b].item() == last.values[name]
            assert bool(batch.valid[length - 1, b]) == (log.rows[-1].step_type != StepType.LAST)
        start += length
    assert (scene.collector.account.queued, scene.collector.account.dropped) == (3 * start, 0)


def cut_to(batch: TrainBatch, length: int) -> TrainBatch:
    """The same as if only so many rows had been received."""
    sources = tuple(replace(source, length=length) for source in batch.provenance)
    lengths = torch.tensor([length] * len(sources))
    return replace(batch, provenance=sources, valid=valid_transitions(batch.fields["step_type"], lengths))
