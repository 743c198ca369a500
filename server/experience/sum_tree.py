"""Drawing places in proportion to their priorities, many at a time.

A complete binary tree in one array: the root at 1, the children of i at 2i and 2i + 1, place p at `capacity + p` after
rounding the capacity up to a power of two. An inner node is the sum of its children, always recomputed by addition in
float64: adding differences would drift.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


class SumTree:
    """Priorities of `capacity` places, all 0 at first.

    Attributes:
        capacity: how many places there are.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"expected a capacity of at least 1, got {capacity}")
        self.capacity = capacity
        self._depth = (capacity - 1).bit_length()
        self._first_leaf = 1 << self._depth
        self._nodes = np.zeros(2 * self._first_leaf)

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._nodes[1])

    def __getitem__(self, places: Places) -> Floats:
        """The priorities of `places` `[M]`."""
        return self._nodes[self._first_leaf + places]

    def __setitem__(self, places: Places, priorities: Floats) -> None:
        """Sets priorities `[M]`; of a place that is named twice the last counts.

        Raises:
            ValueError: a priority is negative or not finite, or a place does not exist.
        """
        priorities = np.broadcast_to(np.asarray(priorities, np.float64), places.shape)
        if not (np.isfinite(priorities) & (priorities >= 0)).all():
            raise ValueError(f"expected finite priorities of at least 0, got {priorities}")
        if not ((places >= 0) & (places < self.capacity)).all():
            raise ValueError(f"expected places below {self.capacity}, got {places}")
        node = self._first_leaf + places
        self._nodes[node] = priorities
        for _ in range(self._depth):
            node = node >> 1
            self._nodes[node] = self._nodes[2 * node] + self._nodes[2 * node + 1]

    def find(self, targets: Floats) -> Places:
        """For each target `[M]` in [0, total) the place p with the least sum of priorities 0 .. p above it.

        A place of priority 0 is never found, whatever rounding does.
        """
        node = np.ones(len(targets), np.int64)
        rest = np.array(targets, np.float64)
        for _ in range(self._depth):
            node <<= 1
            left = self._nodes[node]
            go_right = (rest >= left) & (self._nodes[node + 1] > 0)
            rest -= left * go_right
            node += go_right
        return node - self._first_leaf

    def sample(self, count: int, random: np.random.Generator) -> Places:
        """Draws places in proportion to their priorities, one from each of `count` equal parts of the total.

        Raises:
            ValueError: all priorities are 0.
        """
        if not self.total > 0:
            raise ValueError("expected a priority above 0, all are 0")
        return self.find((np.arange(count) + random.random(count)) * (self.total / count))
