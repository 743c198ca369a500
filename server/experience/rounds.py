"""Unrolls for synchronous algorithms: a train batch is all unrolls of one round, whatever their number.

The inference thread collects a round and then waits; the learner takes it, updates, publishes and asks for the next,
which is how the inference thread knows that the new parameters are there. So one of the two always waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from seedbed.server.experience.account import Collector
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.source import Empty
from seedbed.server.experience.unroll import Provenance, UnrollLayout


class RoundFifo(UnrollFifo):
    """A queue that is emptied round by round."""

    def __init__(self, layout: UnrollLayout, capacity: int, device: torch.device) -> None:
        """Allocates room for the unrolls of a round.

        Args:
            layout: of the unrolls, which share one row and train on all others.
            capacity: at least the number of slots: in a round, each gives one unroll at most.
            device: where they are kept.
        """
        assert len(layout.trained_rows) == layout.period == layout.num_rows - 1, layout
        super().__init__(layout, capacity, device)
        self._round_size = 0
        self._learner_asks = False
        self._oldest_version: int | None = None  # of the policies that acted in the round

    def learn(self) -> None:
        """Hands over the round and waits until the learner asks for the next (inference thread)."""
        with self._moved:
            self._round_size = len(self)
            self._moved.notify_all()
        self._wait(lambda: not self._round_size and self._learner_asks, None)

    def get(self, size: int, timeout_s: float | None = None) -> TrainBatch | Empty:
        """Takes a whole round, whatever `size` says (learner thread); see `Source`."""
        with self._moved:
            self._learner_asks = True
            self._moved.notify_all()
        return super().get(size, timeout_s)

    def _may_take(self, size: int) -> bool:
        return self._round_size > 0

    def _insert(self, open_unrolls: OpenUnrolls, sources: Sequence[Provenance]) -> None:
        oldest = open_unrolls.oldest_version(sources)
        with self._moved:
            known = [version for version in (oldest, self._oldest_version) if version is not None]
            self._oldest_version = min(known, default=None)
        super()._insert(open_unrolls, sources)

    def _take(self, size: int) -> TrainBatch:
        with self._moved:
            size, self._round_size = self._round_size, 0
            self._learner_asks = False  # seen together with the size: the round is taken, and not yet learnt from
            oldest, self._oldest_version = self._oldest_version, None
        return replace(super()._take(size), oldest_version=oldest)


class RoundCollector(Collector):
    """Collects unrolls that share no row but the one which a held request brings twice."""

    def __init__(self, store: OpenUnrolls, fifo: RoundFifo, shown_environments: range = range(0)) -> None:
        """See the base class."""
        super().__init__(store, fifo, shown_environments)
        self._round_fifo = fifo

    def close(self, slots: NDArray[np.int64]) -> None:
        """Takes open unrolls whose last row comes again, once it is answered, as the first of the next."""
        self._put(slots, last=False)
        self._store.restart(slots, repeat_last=True)

    def withdraw(self, slots: NDArray[np.int64]) -> None:
        """Takes what is worth taking of open unrolls whose lease goes on, in another round."""
        worth, _ = self._store.cut(slots)
        self._put(worth, last=True)
        self._store.restart(slots, repeat_last=False)

    def rejoin(self, slots: NDArray[np.int64]) -> None:
        """The next row of these withdrawn slots is there; the transition to it is in no unroll."""
        self.account.dropped += len(slots)

    def learn(self) -> None:
        """Waits until the learner has published what it learnt from all unrolls taken so far."""
        self._round_fifo.learn()
