"""Metrics of updates on their way to the log: nothing waits for the device but whoever looks, and that one once.

On a device every update packs its numbers into one row there; all rows come by one copy. On a CPU they are kept as they
are: packing would cost more than it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class _Update(NamedTuple):
    """Metrics of one update.

    Attributes:
        names: of what is in `row`.
        row: float32 `[len(names)]`, on the device; None: there is nothing.
        rest: those that are on the host anyway.
    """

    names: tuple[str, ...]
    row: Tensor | None
    rest: Mapping[str, Tensor]


class MetricRows:
    """Written by the learner's thread, taken by another one, under the lock of whoever owns it."""

    def __init__(self) -> None:
        self._updates: list[_Update] = []

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Keeps the scalars of an update."""
        apart = {name: metric for name, metric in metrics.items() if metric.device.type != "cpu"}
        row = torch.stack([metric.float() for metric in apart.values()]) if apart else None
        rest = {name: metric for name, metric in metrics.items() if name not in apart} if apart else metrics
        self._updates.append(_Update(tuple(apart), row, rest))

    def take(self) -> Sequence[_Update]:
        """What is there; it is forgotten here."""
        taken, self._updates = self._updates, []
        return taken


def columns_of(updates: Sequence[_Update]) -> dict[str, Tensor]:
    """Each metric's values `[U]`, float32 on the host, of the updates that have it; waits for the device, once."""
    rows = [update.row for update in updates if update.row is not None]
    fetched = iter(torch.cat(rows).cpu().split([len(row) for row in rows]) if rows else ())
    found: dict[str, list[Tensor]] = {}
    for update in updates:
        numbers = () if update.row is None else next(fetched)
        for name, number in (*zip(update.names, numbers, strict=True), *update.rest.items()):
            found.setdefault(name, []).append(number.float())
    return {name: torch.stack(column) for name, column in found.items()}
