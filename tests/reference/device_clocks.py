"""Vector clocks of hosts and streams, and memory that remembers which of them touched it when: how races are found.

An *actor* is a host thread or a stream. Two accesses to the same bytes, at least one of them a write, race unless the
later actor had learnt of the earlier one's work: by program order, an event, a wait or a lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Clock = dict[int, int]
"""Actor -> how far its work is known."""

_MOST_CELLS = 1 << 16  # that a storage is divided into; of a larger one several bytes share one


class Race(NamedTuple):
    """Two accesses that nothing puts in order.

    Attributes:
        kind: "write-read": a read after a write, and so on.
        earlier, later: actor and place of each.
        memory: place at which the memory was allocated.
    """

    kind: str
    earlier: str
    later: str
    memory: str


class Clocks:
    """What every actor knows of the others."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._known: list[Clock] = []
        self._places: dict[tuple[int, int], str] = {}

    def add(self, name: str) -> int:
        """A new actor."""
        actor = len(self._names)
        self._names.append(name)
        self._known.append({actor: 0})
        return actor

    def tick(self, actor: int, place: str) -> None:
        """An actor does something new."""
        now = self._known[actor][actor] + 1
        self._known[actor][actor] = now
        self._places[actor, now] = place

    def snapshot(self, actor: int) -> Clock:
        """What an actor knows now."""
        return dict(self._known[actor])

    def learn(self, actor: int, clock: Mapping[int, int]) -> None:
        """An actor comes to know all that is in a clock."""
        merge(self._known[actor], clock)

    def follow(self, actor: int, other: int) -> None:
        """An actor comes to know all that another one knows."""
        merge(self._known[actor], self._known[other])

    def follow_all(self, actor: int) -> None:
        """An actor comes to know everything."""
        for other in range(len(self._names)):
            self.follow(actor, other)

    def now(self, actor: int) -> int:
        """Its own time."""
        return self._known[actor][actor]

    def knows(self, actor: int, other: int, time: int) -> bool:
        """Whether an actor has learnt of what another one did at its time."""
        return time <= self._known[actor].get(other, 0)

    def describe(self, actor: int, time: int) -> str:
        """Who did it, and where."""
        return f"{self._names[actor]}: {self._places.get((actor, time), '?')}"


def merge(into: Clock, other: Mapping[int, int]) -> None:
    """Adds what another clock knows."""
    for actor, time in other.items():
        if into.get(actor, 0) < time:
            into[actor] = time


class Footprints:
    """The accesses to one storage: of each cell, each actor's last write and last read."""

    def __init__(self, num_bytes: int, place: str) -> None:
        """Nobody has touched it yet.

        Args:
            num_bytes: of the storage.
            place: at which it was allocated.
        """
        self._grain = max(1, -(-num_bytes // _MOST_CELLS))
        self._cells = -(-max(1, num_bytes) // self._grain)
        self._written: dict[int, NDArray[np.int64]] = {}
        self._read: dict[int, NDArray[np.int64]] = {}
        self._place = place

    def touch(
        self, clocks: Clocks, actor: int, tensor: Tensor, *, write: bool, rows: NDArray[np.int64] | None = None
    ) -> list[Race]:
        """Notes an access and returns what it races with.

        Args:
            clocks: of all actors.
            actor: who.
            tensor: a view of the storage.
            write: whether it changes it.
            rows: of the tensor's first dimension that are touched; None: all.
        """
        cells = self._cells_of(tensor, rows)
        if cells is None:
            return []
        accesses = [("write", self._written), ("read", self._read)] if write else [("write", self._written)]
        found = []
        for before, table in accesses:
            for other, times in table.items():
                last = 0 if other == actor else int(times[cells].max(initial=0))
                if not clocks.knows(actor, other, last):
                    kind = f"{before}-{'write' if write else 'read'}"
                    now = clocks.describe(actor, clocks.now(actor))
                    found.append(Race(kind, clocks.describe(other, last), now, self._place))
        table = self._written if write else self._read
        table.setdefault(actor, np.zeros(self._cells, np.int64))[cells] = clocks.now(actor)
        return found

    def _cells_of(self, tensor: Tensor, rows: NDArray[np.int64] | None) -> slice | NDArray[np.bool_] | None:
        """From the first to the last byte; of chosen rows, those of each."""
        if not tensor.numel():
            return None
        size = tensor.element_size()
        base, shape, stride = tensor.storage_offset() * size, tensor.shape, tensor.stride()
        if rows is None or not tensor.dim():
            last = sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
            return slice(base // self._grain, -(-(base + (last + 1) * size) // self._grain))
        last = sum((n - 1) * step for n, step in zip(shape[1:], stride[1:], strict=True))
        chosen = np.zeros(self._cells, bool)
        for row in np.unique(rows).tolist():
            start = base + row * stride[0] * size
            chosen[start // self._grain : -(-(start + (last + 1) * size) // self._grain)] = True
        return chosen
