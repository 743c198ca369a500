"""The account of every transition: received = trained + masked + queued + open + dropped, after every operation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seedbed.server.experience.account import Collector, DiscardingSink, num_new, num_rest
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.unroll import Provenance, UnrollLayout
from tests.reference.unrolls import LeaseLog, Streams, complete_unrolls, cut_unroll, numbers_layout, trained_seqs

CPU = torch.device("cpu")
NUM_SLOTS = 4


class Books:
    """Everything on the way from rows to a learner that only counts."""

    def __init__(
        self,
        num_rows: int,
        period: int,
        capacity: int = 50,
        seed: int = 0,
        stagger: int = 0,
        trained_rows: range = range(0),
    ) -> None:
        self.layout = numbers_layout(num_rows, period, 1, stagger, trained_rows)
        self.store = OpenUnrolls(self.layout, NUM_SLOTS, CPU)
        self.fifo = UnrollFifo(self.layout, capacity, CPU)
        self.collector = Collector(self.store, self.fifo)
        self.streams = Streams(NUM_SLOTS, seed)
        self.taken = 0
        self.seen: set[tuple[int, int]] = set()

    @property
    def received(self) -> int:
        """Transitions that really arrived: rows of a lease less one."""
        logs = [*self.streams.open.values(), *self.streams.ended]
        return sum(max(0, len(log.rows) - 1) for log in logs)

    def train(self, batch_size: int) -> None:
        """Takes a batch; remembers each transition, of which overlapping unrolls bring some again."""
        batch = self.fifo.get(batch_size)
        assert isinstance(batch, TrainBatch)
        for source in batch.provenance:
            new = {(source.lease, seq) for seq in trained_seqs(source, self.layout)} - self.seen
            assert len(new) == num_new(self.layout, source)
            self.seen |= new
            self.taken += len(new)

    def check(self) -> None:
        """The invariant, with `queued` as the account has it: handed to the queue so far, what was taken included."""
        account = self.collector.account
        booked = account.queued + account.untrained + account.dropped
        assert booked + self.collector.open_transitions() == self.received
        assert 0 <= self.taken <= account.queued


LAYOUTS = {  # L, period, stagger, trained rows
    "a transition": (2, 1, 0, range(0)),
    "one shared row": (6, 5, 0, range(0)),
    "overlap": (13, 4, 0, range(0)),
    "overlap, divisible": (12, 4, 0, range(0)),
    "staggered": (6, 5, 1, range(0)),
    "staggered in pairs": (6, 5, 2, range(0)),
    "burn-in": (13, 4, 0, range(4, 12)),
    "burn-in, each once": (13, 8, 0, range(4, 12)),
    "burn-in, staggered": (13, 8, 1, range(4, 12)),
    "burn-in, gaps": (13, 10, 0, range(4, 12)),
    "lookahead": (9, 6, 0, range(6)),
    "burn-in and lookahead": (13, 5, 0, range(3, 10)),
    "a few in the middle": (13, 11, 0, range(2, 4)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_transition_is_accounted_for_after_every_operation(name: str) -> None:
    num_rows, period, stagger, trained_rows = LAYOUTS[name]
    books = Books(num_rows, period, seed=num_rows, stagger=stagger, trained_rows=trained_rows)
    streams = books.streams
    num_cuts = num_short = 0
    for _ in range(200):
        free = [slot for slot in range(NUM_SLOTS) if slot not in streams.open and streams.random.random() < 0.3]
        streams.begin(books.store, np.array(free, np.int64))
        complete = streams.step(books.store, streams.some())
        books.check()
        books.collector.hand_over(complete)
        books.check()
        leaving = np.array([slot for slot in streams.open if streams.random.random() < 0.06], np.int64)
        books.collector.cut(leaving)
        logs = streams.end(leaving)
        num_cuts += sum(cut_unroll(log, books.layout) is not None for log in logs)
        num_short += sum(len(log.rows) == 1 for log in logs)
        books.check()
        while len(books.fifo) >= 2 and streams.random.random() < 0.9:
            books.train(2)
            books.check()
    account = books.collector.account
    assert account.cut_unrolls == num_cuts
    assert (num_cuts > 0) == (num_rows > 2)  # with two rows, every transition completes an unroll
    assert account.short_rows == num_short > 0
    last = np.array(list(streams.open), np.int64)
    books.collector.cut(last)
    streams.end(last)
    while len(books.fifo):
        books.train(1)
    expected = {(log.serial, seq) for log in streams.ended for seq in trained_in(log, books.layout)}
    assert books.seen == expected
    assert account.queued == books.taken == len(expected)
    assert account.untrained == books.received - len(expected)
    assert account.dropped == books.collector.open_transitions() == 0


def trained_in(log: LeaseLog, layout: UnrollLayout) -> set[int]:
    """Transitions of a lease that is over that are trained on in any of its unrolls."""
    last = cut_unroll(log, layout)
    unrolls = [*complete_unrolls(log, layout), *([last] if last else [])]
    return {seq for unroll in unrolls for seq in trained_seqs(unroll, layout)}


def test_what_was_not_taken_is_dropped_in_the_end() -> None:
    books = Books(13, 4, trained_rows=range(4, 12))
    slots = np.arange(3)
    books.streams.begin(books.store, slots)
    for _ in range(15):
        books.collector.hand_over(books.streams.step(books.store, slots))
    books.train(1)
    books.collector.finish()
    account = books.collector.account
    assert (account.queued, account.untrained, account.dropped) == (8, 12, 42 - 20)
    assert books.collector.open_transitions() == 0


@pytest.mark.parametrize(("length", "new", "rest"), [(121, 80, 120), (100, 59, 99), (41, 0, 40), (1, 0, 0)])
def test_a_first_sequence_of_r2d2(length: int, new: int, rest: int) -> None:
    """120 transitions, 40 of them burn-in, and 40 from the start of one to the start of the next."""
    layout = numbers_layout(121, 40, 1, trained_rows=range(40, 120))
    source = Provenance(slot=0, lease=1, environment_index=0, first_seq=0, length=length)
    assert (num_new(layout, source), num_rest(layout, source)) == (new, rest)


@pytest.mark.parametrize(("length", "new", "rest"), [(121, 40, 40), (100, 19, 19), (81, 0, 0)])
def test_a_later_sequence_of_r2d2(length: int, new: int, rest: int) -> None:
    """It trains again on what was trained on in the one before; 80 rows are there from the start."""
    layout = numbers_layout(121, 40, 1, trained_rows=range(40, 120))
    source = Provenance(slot=0, lease=1, environment_index=0, first_seq=400, length=length)
    assert (num_new(layout, source), num_rest(layout, source)) == (new, rest)


def test_what_a_closed_queue_refuses_is_dropped_and_counted() -> None:
    books = Books(4, 3, capacity=1)
    slots = np.arange(3)
    books.streams.begin(books.store, slots)
    for _ in range(4):
        complete = books.streams.step(books.store, slots)
    books.fifo.put(books.store, books.store.provenance(slots[:1]))  # full: the next put would wait
    books.fifo.close()
    books.collector.hand_over(complete)
    assert (books.collector.account.queued, books.collector.account.dropped) == (0, 9)


def test_cutting_twice_counts_once() -> None:
    books = Books(6, 5)
    slots = np.arange(2)
    books.streams.begin(books.store, slots)
    for _ in range(3):
        books.streams.step(books.store, slots)
    for _ in range(2):
        books.collector.cut(slots)
        assert (books.collector.account.queued, books.collector.account.cut_unrolls) == (4, 2)
        assert len(books.fifo) == 2


@pytest.mark.parametrize(
    ("first_seq", "length", "new"), [(0, 13, 12), (4, 13, 4), (8, 10, 1), (8, 9, 0), (0, 1, 0), (0, 5, 4)]
)
def test_new_transitions_of_an_unroll(first_seq: int, length: int, new: int) -> None:
    """L = 13, period 4: nine rows, so eight transitions, are those of the unroll before."""
    source = Provenance(slot=0, lease=1, environment_index=0, first_seq=first_seq, length=length)
    assert num_new(numbers_layout(13, 4, 1), source) == new


def test_a_server_that_does_not_train_forgets_unrolls_and_goes_on() -> None:
    """Every slot may fill one unroll after the other, leave, and be leased again."""
    books = Books(num_rows=4, period=3)
    sink = DiscardingSink(books.store)
    slots = np.array([0, 2])
    for _ in range(3):
        books.store.position[slots] = 4
        sink.hand_over(slots)
        assert books.store.position.tolist() == [1, 0, 1, 0], "the last row of an unroll is the first of the next"
    sink.cut(slots)
    assert not books.store.position.any()
    assert len(books.fifo) == books.collector.account.queued == 0
