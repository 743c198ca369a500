"""Cohorts of episodes, by which a run is judged: stopped, called better or worse than before, warned about.

A mean over the episodes that ended last counts short ones first, and one that is looked at again and again passes any
target by chance. So the next ceil(100 / E) episodes *begun* by each of the E environments that count are a cohort. It
is judged once, when all of them have ended; then the next one begins. Which episodes belong to it is settled before
they begin, and nothing that comes of them has a say in it.

An episode whose environment broke, or whose client went away, is lost. With more than 5 % of them a cohort is void: the
long episodes are those that get lost. So is an open one when a run is stopped. No torch, no clock, one writer.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

SIZE = 100
"""Episodes of a cohort, at least."""

MAX_LOST_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a cohort came to.

    Attributes:
        mean, median: of its returns.
        standard_error: of the mean.
        episodes: how many returns; those that were lost are none of them.
    """

    mean: float
    median: float
    standard_error: float
    episodes: int

    @property
    def score(self) -> float:
        """The lesser of mean and median: a mean alone is at the mercy of one broken or lying client."""
        return min(self.mean, self.median)


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortRecord:
    """The cohorts of a run so far.

    Attributes:
        judged, void: how many there were.
        first, newest, best: of those judged; the best has the highest mean. None before the first.
    """

    judged: int = 0
    void: int = 0
    first: Verdict | None = None
    newest: Verdict | None = None
    best: Verdict | None = None

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse."""
        names = ("first", "newest", "best")
        verdicts = {name: None if data[name] is None else Verdict(**data[name]) for name in names}
        return cls(judged=data["judged"], void=data["void"], **verdicts)

    def after(self, verdict: Verdict) -> Self:
        """With one more."""
        better = self.best is None or verdict.mean > self.best.mean
        return replace(
            self,
            judged=self.judged + 1,
            first=self.first or verdict,
            newest=verdict,
            best=verdict if better else self.best,
        )


class Cohorts:
    """Judges the environments that count; told of all of them by the thread that hears of them.

    Attributes:
        record: what came of the cohorts so far; replaced as a whole, so other threads may read it.
        progress: episodes of the open cohort that have ended, and its size; likewise.
    """

    def __init__(self, counts: Callable[[int], bool], record: CohortRecord | None = None, size: int = SIZE) -> None:
        """Opens the first one.

        Args:
            counts: whether the environment with a stable index counts.
            record: of the run so far. What was open when it was stopped is void, and in no record.
            size: episodes of a cohort, at least.
        """
        self.record = record or CohortRecord()
        self.progress = (0, size)
        self._counts = counts
        self._size = size
        self._present: dict[int, None] = {}
        self._returns: dict[int, list[float | None]] = {}  # of each member, in order; None for those that were lost
        self._before: set[int] = set()  # environments in an episode that began before the cohort did
        self._share = size
        self._owing = 0
        self._stopped = False

    @property
    def num_present(self) -> int:
        """Environments that count and are there."""
        return len(self._present)

    def joined(self, indices: Iterable[int]) -> None:
        """Environments are there, and begin their first episodes.

        They take part in the open cohort unless a member has already done its share.
        """
        is_open = self._owing == sum(index in self._present for index in self._returns)
        for index in indices:
            if self._counts(index):
                self._before.discard(index)
                self._present[index] = None
                if is_open:
                    self._returns.setdefault(index, [])
        self._count()

    def left(self, indices: Iterable[int]) -> None:
        """Environments are gone, and with them the episodes they were in."""
        for index in indices:
            if self._present.pop(index, 0) is None:
                self._add(index, None)
        self._count()

    def lost(self, index: int) -> None:
        """The episode of an environment was cut for a reason that is not its own; it begins another."""
        if index in self._present:
            self._add(index, None)

    def ended(self, index: int, episode_return: float) -> None:
        """An episode has ended."""
        if index in self._present:
            self._add(index, episode_return)

    def stop(self) -> None:
        """Judges nothing any more: from now on environments leave because they are told to."""
        self._stopped = True

    def _add(self, index: int, episode_return: float | None) -> None:
        if index in self._before:
            self._before.discard(index)
            return
        returns = self._returns.get(index)
        if returns is None or len(returns) >= self._share:
            return
        returns.append(episode_return)
        self.progress = (self.progress[0] + 1, self.progress[1])
        self._owing -= len(returns) == self._share
        if episode_return is None or not self._owing:
            self._look(between_episodes=index)

    def _count(self) -> None:
        """Whoever comes or goes changes what each of the others owes."""
        present = [returns for index, returns in self._returns.items() if index in self._present]
        self._share = math.ceil(self._size / max(1, len(present)))
        self._owing = sum(len(returns) < self._share for returns in present)
        done = sum(min(len(returns), self._share) for returns in self._returns.values())
        self.progress = (done, max(done, self._share * len(present), self._size))
        if present and not self._owing:
            self._look()

    def _look(self, between_episodes: int | None = None) -> None:
        """Judges the cohort if it is complete, or finds it void, and opens the next."""
        returns = [value for member in self._returns.values() for value in member[: self._share]]
        if self._stopped:
            return
        if returns.count(None) > MAX_LOST_SHARE * self.progress[1]:
            self.record = replace(self.record, void=self.record.void + 1)
        elif not self._owing and self._present:
            self.record = self.record.after(_judge([value for value in returns if value is not None]))
        else:
            return
        self._returns = {index: [] for index in self._present}
        self._before = {index for index in self._present if index != between_episodes}
        self._count()


def _judge(returns: list[float]) -> Verdict:
    mean, median = statistics.fmean(returns), statistics.median(returns)
    squares = math.fsum((value - mean) ** 2 for value in returns)
    error = math.sqrt(squares / max(1, len(returns) - 1) / len(returns))
    return Verdict(mean, median, error, len(returns))
