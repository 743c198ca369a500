"""Plan of a run's environments over its tasks: which index plays which task, and which task a newcomer is given.

Index i plays task i mod K, as in IMPALA (arXiv 1802.01561, section 5.3), or more often a task of greater weight: so
each has its share of every range of indices, of those that explore less and of those that only show the score.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

_PERIOD = 1 << 16
"""Indices after which tasks come as from the first one on: clients may name any, and each would be counted up to."""


class TaskPlan:
    """Tasks by their numbers, 0 to K - 1."""

    def __init__(self, weights: Sequence[float] = (1.0,)) -> None:
        """Shares are weights over their sum."""
        total = sum(weights)
        self.shares = tuple(weight / total for weight in weights)
        self._given = [0] * len(weights)
        self._tasks: list[int] = []

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.shares)

    def task_of(self, index: int) -> int:
        """The task of an environment's index: the one that is furthest behind its share of the indices before."""
        if self.num_tasks == 1:
            return 0
        index %= _PERIOD
        while len(self._tasks) <= index:
            number = len(self._tasks) + 1
            behind = [share * number - given for share, given in zip(self.shares, self._given, strict=True)]
            task = max(range(self.num_tasks), key=lambda k: (round(behind[k], 9), -k))
            self._given[task] += 1
            self._tasks.append(task)
        return self._tasks[index]

    def indices_of(self, task: int) -> Iterator[int]:
        """All indices of a task, without end."""
        return (index for index in itertools.count() if self.task_of(index) == task)

    def indices(self, num_envs: int) -> list[list[int]]:
        """The first so many indices, those of each task by themselves."""
        found: list[list[int]] = [[] for _ in self.shares]
        for index in range(num_envs):
            found[self.task_of(index)].append(index)
        return found

    def choose(self, rows: Sequence[int]) -> int:
        """The task that has the fewest environments for its share.

        Args:
            rows: of each task, environments that are there.
        """
        return min(range(self.num_tasks), key=lambda task: (rows[task] / self.shares[task], task))
