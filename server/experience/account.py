"""From complete unrolls to the learner's source, with an account of every step.

The account is in transitions, each of which is trained on in one unroll at least, and booked with the first:

    received = trained + masked + queued + untrained + open + dropped + shown

so a step that goes missing shows as a number. `DiscardingSink` is for servers that only answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.source import Source
from seedbed.server.experience.unroll import Provenance, UnrollLayout


@dataclass(slots=True)
class Account:
    """Transitions that entered the source or never will; the learner counts the rest.

    Attributes:
        queued: handed to the source to be trained on.
        untrained: in no unroll's trained rows: burn-in of a lease's first unroll, lookahead of its last.
        dropped: lost when the run was shut down: the source's rest, and what was open.
        cut_unrolls: unrolls that ended early because their lease did.
        shown: of environments that only show the score: never meant to be learnt from.
        short_rows: leases that ended after a single row: no transition, nothing to train on.
    """

    queued: int = 0
    untrained: int = 0
    dropped: int = 0
    cut_unrolls: int = 0
    shown: int = 0
    short_rows: int = 0


class Collector:
    """Used by the inference thread; `finish` by the main thread when that one has ended."""

    def __init__(self, store: OpenUnrolls, queue: Source, shown_environments: range = range(0)) -> None:
        """Collects from `store` into `queue`, but nothing of the environments with the indices `shown_environments`."""
        self._store = store
        self._queue = queue
        self._shown = shown_environments
        self._layout = store.layout
        self.account = Account()

    def hand_over(self, slots: NDArray[np.int64]) -> None:
        """Queues the complete unrolls of these slots, waiting for room, and starts their next ones."""
        self._put(slots, last=False)
        self._store.complete(slots)

    def cut(self, slots: NDArray[np.int64]) -> None:
        """Queues what the open unrolls hold beyond the ones before; their last observation is the bootstrap."""
        worth, rest = self._store.cut(slots)
        self.account.cut_unrolls += len(worth)
        self._put(worth, last=True)
        for source in self._store.provenance(rest):
            self.account.short_rows += source.length == 1 and source.first_seq == 0
            self._book(source, num_rest(self._layout, source), new=0)
        self._store.position[slots] = 0

    def open_transitions(self) -> int:
        """Transitions in open unrolls that are booked nowhere yet."""
        slots = np.flatnonzero(self._store.position)
        return sum(num_rest(self._layout, source) for source in self._store.provenance(slots))

    def finish(self) -> None:
        """Books what the source and the open unrolls still hold as dropped."""
        waiting = sum(num_new(self._layout, source) for source in self._queue.drain())
        self.account.queued -= waiting
        self.account.dropped += waiting + self.open_transitions()
        self._store.position[:] = 0

    def _put(self, slots: NDArray[np.int64], *, last: bool) -> None:
        """Queues open unrolls; `last`: no unroll follows that holds the rows behind the trained ones again."""
        learnt: list[Provenance] = []
        new: list[int] = []
        for source in self._store.provenance(slots):
            rest, fresh = num_rest(self._layout, source), num_new(self._layout, source)
            behind = 0 if last else max(0, source.length - 1 - self._layout.trained_rows.stop)
            if self._book(source, rest - behind, fresh):
                learnt.append(source)
                new.append(fresh)
        done = self._queue.put(self._store, learnt)
        self.account.queued += sum(new[:done])
        self.account.dropped += sum(new[done:])

    def _book(self, source: Provenance, transitions: int, new: int) -> bool:
        """Books all these transitions but the `new` ones, which are to be queued; whether they are meant to be."""
        if source.environment_index in self._shown:
            self.account.shown += transitions
            return False
        self.account.untrained += transitions - new
        return True


class DiscardingSink:
    """What stands in for `Collector` in a server that does not train: unrolls are forgotten, and not accounted for."""

    def __init__(self, store: OpenUnrolls) -> None:
        self._store = store
        self.account = Account()

    def hand_over(self, slots: NDArray[np.int64]) -> None:
        """Starts the next unrolls of these slots."""
        self._store.complete(slots)

    def cut(self, slots: NDArray[np.int64]) -> None:
        """The lease of these slots is over."""
        self._store.position[slots] = 0

    def finish(self) -> None:
        """Forgets the open ones."""
        self._store.position[:] = 0


def num_new(layout: UnrollLayout, source: Provenance) -> int:
    """Transitions that are trained on in an unroll and in none before it."""
    first = layout.first_new if source.first_seq > 0 else layout.trained_rows.start
    return max(0, min(layout.trained_rows.stop, source.length - 1) - first)


def num_rest(layout: UnrollLayout, source: Provenance) -> int:
    """Transitions of a lease, up to the end of an unroll, that were not booked with the unrolls before it."""
    booked = layout.trained_rows.stop - layout.period if source.first_seq > 0 else 0
    return max(0, source.length - 1 - booked) if source.length else 0
