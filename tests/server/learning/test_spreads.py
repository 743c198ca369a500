"""Spreads against NumPy, whatever the values are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seedbed.server.learning.spreads import Spreads, spread_of
from seedbed.server.shared.spread import QUANTILES


def test_a_spread_is_what_numpy_says() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(3, 2, (20, 32)).astype(np.float32) for _ in range(5)]
    arrays[0][:3] = np.nan  # not valid
    arrays[1][0, 0] = np.inf
    values = np.concatenate([array.reshape(-1) for array in arrays])
    values = values[np.isfinite(values)]
    spread = spread_of([torch.from_numpy(array) for array in arrays])
    assert spread is not None
    assert (spread.low, spread.high) == (values.min(), values.max())
    assert sum(spread.counts) == len(values)
    counts, edges = np.histogram(values, bins=len(spread.counts))
    assert np.abs(counts - np.array(spread.counts)).max() <= 1, "but for rounding at an edge"
    assert np.allclose(spread.edges, edges, atol=1e-5)
    assert np.allclose(spread.quantiles, np.quantile(values, QUANTILES), atol=0.02)
    assert spread.total == pytest.approx(values.sum(dtype=np.float64))
    assert spread.squares == pytest.approx(np.square(values, dtype=np.float64).sum())
    assert list(spread.named_quantiles("lag")) == ["lag_p05", "lag_p25", "lag_p50", "lag_p75", "lag_p95"]


def test_equal_values_and_none() -> None:
    spread = spread_of([torch.full((2, 3), 4.0)])
    assert spread is not None
    assert (spread.low, spread.high, sum(spread.counts)) == (4, 4, 6)
    assert set(spread.quantiles) == {4}
    assert np.all(np.diff(spread.edges) > 0)
    assert spread_of([torch.full((2,), torch.nan)]) is None


def test_the_newest_updates_are_kept_and_forgotten_when_taken() -> None:
    spreads = Spreads()
    for number in range(50):
        spreads.add({"lag": torch.full((1,), float(number))})
    (values,) = spreads.take().values()
    assert [float(value) for value in values] == list(range(34, 50))
    assert spreads.take() == {}
