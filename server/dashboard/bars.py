"""Observations that are no images, as numbers: each of up to 64, else the least, the mean and the greatest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.array_spec import ArraySpec
from seedbed.server.dashboard.pictures import MAX_BARS


class Bars:
    """Numbers of an array, and between which bounds they are drawn.

    Attributes:
        low, high: one for each number: the spec's where finite, else the least and greatest that was seen; None before.
    """

    def __init__(self, spec: ArraySpec) -> None:
        """Nothing seen yet."""
        self._spec = spec
        self._summarised = spec.num_elements > MAX_BARS
        count = 1 if self._summarised else spec.num_elements
        self._low = np.full(count, math.inf)
        self._high = np.full(count, -math.inf)

    def show(self, rows: NDArray[Any]) -> list[list[float]]:
        """Rows `[N, *spec.shape]` as numbers for each row; [least, mean, greatest] of many."""
        numbers = rows.reshape(len(rows), self._spec.num_elements).astype(np.float64)
        if self._summarised:
            numbers = np.stack([numbers.min(1), numbers.mean(1), numbers.max(1)], 1)
        seen = np.where(np.isfinite(numbers), numbers, np.nan)
        if self._summarised:
            seen = seen.reshape(-1, 1)
        if len(seen):
            self._low = np.fmin(self._low, np.fmin.reduce(seen, 0))
            self._high = np.fmax(self._high, np.fmax.reduce(seen, 0))
        found: list[list[float]] = numbers.tolist()
        return found

    @property
    def bounds(self) -> tuple[list[float], list[float]]:
        """Lows and highs; infinite where there is no bound and nothing has been seen."""
        if self._summarised:
            low, high = np.array([self._spec.lower.min()]), np.array([self._spec.upper.max()])
        else:
            low, high = self._spec.lower.reshape(-1), self._spec.upper.reshape(-1)
        return (
            np.where(np.isfinite(low), low, self._low).tolist(),
            np.where(np.isfinite(high), high, self._high).tolist(),
        )
