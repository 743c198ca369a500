"""Sets and counts of what others name, which forget the oldest: a client that makes up ever new names grows nothing."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")


class Recent(Generic[K]):
    """At most so many keys, each with a count; the ones named longest ago make room.

    Attributes:
        size: how many keys there are at most.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._counts: dict[K, int] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._counts

    def __len__(self) -> int:
        return len(self._counts)

    def __getitem__(self, key: K) -> int:
        """How often a key was added; 0 where it is not known, or not any more."""
        return self._counts.get(key, 0)

    def add(self, key: K) -> int:
        """Names a key once more; returns how often that has happened."""
        self._counts[key] = number = self._counts.pop(key, 0) + 1  # to the end of the order
        if len(self._counts) > self.size:
            del self._counts[next(iter(self._counts))]
        return number
