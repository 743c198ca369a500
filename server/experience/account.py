"""From complete unrolls to the learner's queue, with an account of every step.

The account is in transitions, each of which belongs to one unroll's new part:

    received = trained + masked + queued + open + dropped + shown

so a step that goes missing shows as a number. `DiscardingSink` is for servers that only answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.unroll import Provenance


@dataclass(slots=True)
class Account:
    """Transitions that entered the queue or were lost on the way there; the learner counts the rest.

    Attributes:
        queued: handed to the learner's queue so far.
        dropped: lost when the run was shut down: the queue's rest, and what was open.
        cut_unrolls: unrolls that ended early because their lease did.
        shown: of environments that only show the score: never meant to be learnt from.
        short_rows: leases that ended after a single row: no transition, nothing to train on.
    """

    queued: int = 0
    dropped: int = 0
    cut_unrolls: int = 0
    shown: int = 0
    short_rows: int = 0


class UnrollQueue(Protocol):
    """Where unrolls go from here."""

    def put(self, store: OpenUnrolls, slots: NDArray[np.int64]) -> int:
        """Takes the open unrolls of these slots, waiting for room; says how many, fewer only when it was closed."""

    def drain(self) -> list[Provenance]:
        """Forgets what never reached the learner, and says what it was."""


class Collector:
    """Used by the inference thread; `finish` by the main thread when that one has ended."""

    def __init__(self, store: OpenUnrolls, queue: UnrollQueue, shown_environments: range = range(0)) -> None:
        """Collects from `store` into `queue`, but nothing of the environments with the indices `shown_environments`."""
        self._store = store
        self._queue = queue
        self._shown = shown_environments
        self._overlap = store.layout.num_rows - store.layout.period
        self.account = Account()

    def hand_over(self, slots: NDArray[np.int64]) -> None:
        """Queues the complete unrolls of these slots, waiting for room, and starts their next ones."""
        self._put(slots)
        self._store.complete(slots)

    def cut(self, slots: NDArray[np.int64]) -> None:
        """Queues what the open unrolls hold beyond the ones before; their last observation is the bootstrap."""
        worth, rest = self._store.cut(slots)
        self.account.cut_unrolls += len(worth)
        alone = [source for source in self._store.provenance(rest) if source.length == 1 and source.first_seq == 0]
        self.account.short_rows += len(alone)
        self._put(worth)
        self._store.position[slots] = 0

    def open_transitions(self) -> int:
        """Transitions in open unrolls that no unroll before held."""
        slots = np.flatnonzero(self._store.position)
        return sum(map(self.new_transitions, self._store.provenance(slots)))

    def finish(self) -> None:
        """Books what the queue and the open unrolls still hold as dropped."""
        waiting = sum(map(self.new_transitions, self._queue.drain()))
        self.account.queued -= waiting
        self.account.dropped += waiting + self.open_transitions()
        self._store.position[:] = 0

    def new_transitions(self, source: Provenance) -> int:
        """Transitions of an unroll that the one before it did not hold."""
        shared_rows = self._overlap if source.first_seq > 0 else 1
        return max(0, source.length - shared_rows)

    def _put(self, slots: NDArray[np.int64]) -> None:
        sources = self._store.provenance(slots)
        if self._shown:
            shown = np.array([source.environment_index in self._shown for source in sources], bool)
            self.account.shown += sum(self.new_transitions(sources[i]) for i in np.flatnonzero(shown))
            slots = slots[~shown]
            sources = [source for source in sources if source.environment_index not in self._shown]
        done = self._queue.put(self._store, slots)
        self.account.queued += sum(map(self.new_transitions, sources[:done]))
        self.account.dropped += sum(map(self.new_transitions, sources[done:]))


class DiscardingSink:
    """What stands in for `Collector` in a server that does not train: unrolls are forgotten, and not accounted for."""

    def __init__(self, store: OpenUnrolls) -> None:
        self._store = store

    def hand_over(self, slots: NDArray[np.int64]) -> None:
        """Starts the next unrolls of these slots."""
        self._store.complete(slots)

    def cut(self, slots: NDArray[np.int64]) -> None:
        """The lease of these slots is over."""
        self._store.position[slots] = 0
