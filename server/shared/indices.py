"""Environment indices of a run's replicas: they tell environments apart, and with them their seeds."""

from __future__ import annotations

INDEX_STRIDE = 1 << 20
"""Environments of replica r have indices from r times this on."""


def indices_of(rank: int) -> range:
    """Those of one replica."""
    return range(rank * INDEX_STRIDE, (rank + 1) * INDEX_STRIDE)
