"""Summaries of episode returns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from seedbed.common.counting import count


@dataclass(frozen=True, slots=True)
class Summary:
    """What some episodes returned.

    Attributes:
        mean, median: of the returns.
        standard_error: of the mean; None for a single episode.
        episodes: how many.
    """

    mean: float
    standard_error: float | None
    median: float
    episodes: int

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2f}"
        return f"{self.mean:.2f}{error} (median {self.median:.2f}, {count(self.episodes, 'episode')})"


def summarise(returns: Sequence[float]) -> Summary:
    """Summarises at least one episode return.

    Raises:
        ValueError: there is none.
    """
    if not returns:
        raise ValueError("expected at least one episode return, got none")
    error = statistics.stdev(returns) / len(returns) ** 0.5 if len(returns) > 1 else None
    return Summary(statistics.fmean(returns), error, statistics.median(returns), len(returns))
