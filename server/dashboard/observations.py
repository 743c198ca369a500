"""Whole copies of what environments show, out of memory that frontends write to at any moment.

Rows of a lease are copied between two looks at its numbers. Where a frontend was writing meanwhile the copy is thrown
away, and after a few tries the one before stays: a picture may be a step old, it is never of two steps.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedbed.server.shared.insight import InsightTable
from seedbed.server.shared.slots import SlotTable

_TRIES = 4


class LeaseRows(NamedTuple):
    """Slots `first .. first + num_rows - 1` under one lease."""

    serial: int
    first: int
    num_rows: int


def leases_of(insight: InsightTable) -> list[LeaseRows]:
    """Every lease as it is now."""
    serials = insight.lease.copy()
    starts = [0, *(np.flatnonzero(np.diff(serials)) + 1).tolist(), len(serials)]
    pairs = itertools.pairwise(starts)
    return [LeaseRows(int(serials[start]), start, end - start) for start, end in pairs if serials[start]]


class Observations:
    """The newest whole copy of one observation array of each slot."""

    def __init__(self, slots: SlotTable, insight: InsightTable, part: int) -> None:
        """Copies nothing yet.

        Args:
            slots: where frontends write.
            insight: says which lease holds which slots.
            part: number of the array in the spec's order.
        """
        self._slots = slots
        self._insight = insight
        self._source = slots.observations[part]
        self._copies = np.zeros(self._source.shape, self._source.dtype)  # of `zeros_like` every page would be touched
        self._serials = np.zeros(slots.num_slots, np.int64)
        self.refused = 0

    def take(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """What these slots `[N]` show, `[N, ...]`; zeros where nothing whole has been seen of the lease."""
        for lease in leases_of(self._insight):
            inside = wanted[(wanted >= lease.first) & (wanted < lease.first + lease.num_rows)]
            if len(inside):
                self._copy(lease, int(inside.min()), int(inside.max()) + 1)
        rows: NDArray[Any] = self._copies[wanted]
        stale = self._serials[wanted] != self._insight.lease[wanted]
        rows[stale] = 0
        return rows

    def _copy(self, lease: LeaseRows, start: int, end: int) -> None:
        begun, accepted, serials = self._slots.begun_seq, self._slots.accepted_seq, self._insight.lease
        for _ in range(_TRIES):
            before = begun[lease.first]
            if not before or accepted[lease.first] != before:
                self.refused += 1
                continue
            rows = self._source[start:end].copy()
            if begun[lease.first] == before and serials[lease.first] == lease.serial:
                self._copies[start:end] = rows
                self._serials[start:end] = lease.serial
                return
            self.refused += 1
