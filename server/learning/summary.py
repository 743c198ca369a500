"""Summary of an update's steps: one number for each metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def summary(steps: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean over the steps that have a metric, the maximum of those named `*_max`."""
    columns: dict[str, list[Tensor]] = {}
    for metrics in steps:
        for name, metric in metrics.items():
            columns.setdefault(name, []).append(metric)
    return {name: _reduced(name, column) for name, column in columns.items()}


def _reduced(name: str, column: list[Tensor]) -> Tensor:
    if len(column) == 1:
        return column[0]
    stacked = torch.stack(column)
    return stacked.amax() if name.endswith("_max") else stacked.mean()
