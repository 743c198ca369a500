"""Latencies in logarithmic buckets: any number of values in 15 KB, every percentile within 1 %.

Counts only grow, so the values of any span of time are the difference of two copies; and they add up over processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
"""How many values fell into each bucket, `[NUM_BUCKETS]`."""

_SHORTEST_S = 1e-6
_LONGEST_S = 100.0
_LOG_GROWTH = math.log(1.01)
NUM_BUCKETS = math.ceil(math.log(_LONGEST_S / _SHORTEST_S) / _LOG_GROWTH) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """A distribution in a few numbers."""

    p50: float
    p90: float
    p95: float
    p99: float
    max: float


def bucket_of(seconds: float) -> int:
    """The bucket of a duration; those out of range fall into the first or last."""
    if seconds <= _SHORTEST_S:
        return 0
    return min(NUM_BUCKETS - 1, int(math.log(seconds / _SHORTEST_S) / _LOG_GROWTH))


def no_counts() -> Counts:
    """Of nothing."""
    return np.zeros(NUM_BUCKETS, np.int64)


def quantile_s(counts: Counts, q: float) -> float:
    """The duration below or at which a share `q` of all values lies; NaN when there are none."""
    total = int(counts.sum())
    if not total:
        return math.nan
    rank = max(1, math.ceil(q * total))
    bucket = int(np.searchsorted(np.cumsum(counts), rank))
    return _SHORTEST_S * math.exp((bucket + 0.5) * _LOG_GROWTH)


def percentiles_ms(counts: Counts) -> Percentiles:
    """In milliseconds."""
    p50, p90, p95, p99, longest = (quantile_s(counts, q) * 1000 for q in (0.5, 0.9, 0.95, 0.99, 1.0))
    return Percentiles(p50=p50, p90=p90, p95=p95, p99=p99, max=longest)


def to_sparse(counts: Counts) -> dict[str, int]:
    """The buckets that hold anything, as JSON can hold them."""
    return {str(bucket): int(counts[bucket]) for bucket in np.flatnonzero(counts)}


def from_sparse(sparse: Mapping[str, int]) -> Counts:
    """The inverse of `to_sparse`."""
    counts = no_counts()
    for bucket, count in sparse.items():
        counts[int(bucket)] = count
    return counts
