"""Buckets against numpy's percentiles of all values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seedbed.env_client.loadtest.latency import (
    NUM_BUCKETS,
    bucket_of,
    from_sparse,
    no_counts,
    percentiles_ms,
    quantile_s,
    to_sparse,
)


def filled(values: np.typing.NDArray[np.float64]) -> np.typing.NDArray[np.int64]:
    counts = no_counts()
    for value in values:
        counts[bucket_of(float(value))] += 1
    return counts


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_are_within_one_percent(seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(-6, 1.5, 5000)
    counts = filled(values)
    for q in (0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0):
        assert quantile_s(counts, q) == pytest.approx(np.quantile(values, q, method="inverted_cdf"), rel=0.01)


def test_percentiles_have_names_and_milliseconds() -> None:
    found = percentiles_ms(filled(np.arange(1, 101) / 1000))
    assert [found.p50, found.p90, found.p95, found.p99, found.max] == pytest.approx([50, 90, 95, 99, 100], rel=0.01)


def test_few_values() -> None:
    assert quantile_s(filled(np.array([0.2])), 0.01) == pytest.approx(0.2, rel=0.01)
    assert quantile_s(filled(np.array([0.1, 0.2, 0.3])), 0.5) == pytest.approx(0.2, rel=0.01)
    assert quantile_s(filled(np.array([0.1, 0.2])), 0.5) == pytest.approx(0.1, rel=0.01)
    assert math.isnan(quantile_s(no_counts(), 0.5))


def test_values_out_of_range_fall_into_the_outermost_buckets() -> None:
    assert bucket_of(-1.0) == bucket_of(0.0) == bucket_of(1e-9) == 0
    assert bucket_of(1e9) == NUM_BUCKETS - 1
    assert 0 < bucket_of(1e-3) < bucket_of(99.0) < NUM_BUCKETS


def test_differences_and_sums_are_of_the_values_in_between() -> None:
    early, late = np.full(50, 0.001), np.full(50, 0.1)
    both = filled(np.concatenate([early, late]))
    assert quantile_s(both - filled(early), 0.01) == pytest.approx(0.1, rel=0.01)
    assert (filled(early) + filled(late) == both).all()


def test_sparse_round_trip() -> None:
    counts = filled(np.random.default_rng(0).exponential(0.01, 200))
    sparse = to_sparse(counts)
    assert len(sparse) < 200
    assert (from_sparse(sparse) == counts).all()
