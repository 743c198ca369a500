"""Spreads of what updates saw: the newest few are kept on the device and looked at once in a log interval.

An update pays for keeping a reference; nothing waits for the device but the thread that logs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seedbed.server.shared.spread import QUANTILES, Spread

_UPDATES = 16
_PARTS = 30
_MOST = 1 << 20  # values that are sorted; of more every second, third ... one


class Spreads:
    """Written by the learner's thread, taken by another one, under the lock of whoever owns it."""

    def __init__(self) -> None:
        self._newest: dict[str, deque[Tensor]] = {}

    def add(self, histograms: Mapping[str, Tensor]) -> None:
        """Keeps what an update saw.

        Args:
            histograms: values of any shape by name, NaN where they do not count.
        """
        for name, values in histograms.items():
            self._newest.setdefault(name, deque(maxlen=_UPDATES)).append(values)

    def take(self) -> dict[str, Sequence[Tensor]]:
        """What is there, by name; it is forgotten here."""
        taken, self._newest = self._newest, {}
        return {name: tuple(values) for name, values in taken.items()}


@torch.no_grad()
def spread_of(values: Sequence[Tensor]) -> Spread | None:
    """The spread of all values that are finite; None if there are none."""
    flat = torch.cat([part.detach().reshape(-1).float() for part in values]).cpu()  # one wait; all else is on the host
    flat = flat[flat.isfinite()]
    flat = flat[:: max(1, -(-flat.numel() // _MOST))]
    if not flat.numel():
        return None
    low, high = flat.aminmax()
    places = ((flat - low) / (high - low).clamp(min=1e-30) * _PARTS).long().clamp(0, _PARTS - 1)
    counts = torch.bincount(places, minlength=_PARTS)
    ordered = flat.sort().values
    chosen = [min(len(ordered) - 1, int(share * len(ordered))) for share in QUANTILES]
    wide = flat.double()
    numbers = torch.cat((torch.stack((low, high)).double(), ordered[chosen].double()))
    least, greatest, *quantiles = numbers.tolist()
    return Spread(least, greatest, counts.tolist(), float(wide.sum()), float(wide.square().sum()), tuple(quantiles))
