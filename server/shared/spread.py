"""How values of a log interval are spread: a few quantiles for files, a histogram for trackers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of an interval.

    Attributes:
        low, high: the least and the greatest.
        counts: values in each of as many parts of equal width between them.
        total, squares: sums of values and of their squares.
        quantiles: of `QUANTILES`, in that order.
    """

    low: float
    high: float
    counts: Sequence[int]
    total: float
    squares: float
    quantiles: Sequence[float]

    @property
    def edges(self) -> list[float]:
        """Where the parts begin, and where the last one ends; they have a width even where all values are equal."""
        width = (self.high - self.low or 1e-6) / len(self.counts)
        return [self.low + number * width for number in range(len(self.counts) + 1)]

    def named_quantiles(self, name: str) -> dict[str, float]:
        """Keys in `metrics.jsonl`: NAME_p05, NAME_p50 ..."""
        pairs = zip(QUANTILES, self.quantiles, strict=True)
        return {f"{name}_p{round(100 * share):02d}": value for share, value in pairs}
