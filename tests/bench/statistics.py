"""The little arithmetic that measurements need: medians over repetitions, trends over time."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def medians(samples: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The median of each name over the samples that have it."""
    columns: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.items():
            columns.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in columns.items()}


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """The least-squares slope of values over times; 0 with fewer than two different times."""
    if len(set(times)) < 2:
        return 0.0
    centred = np.asarray(times, float) - np.mean(times)
    return float(centred @ np.asarray(values, float) / (centred @ centred))


def drift(values: Sequence[float]) -> float:
    """The mean of the last third over that of the first third, less 1; 0 with fewer than three values."""
    third = len(values) // 3
    if not third:
        return 0.0
    return float(np.mean(values[-third:]) / np.mean(values[:third])) - 1
