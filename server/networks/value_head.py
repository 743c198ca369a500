"""The value head whose outputs are scaled by running moments of its targets: PopArt.

van Hasselt et al. 2016 (arXiv 1602.07714); with V-trace Hessel et al. 2018 (arXiv 1809.04474). The head says

    V = spread * n + mean,    n = w f + b

Moments change after an update, and the head is rewritten with them so that V stays what it was:

    mean' = (1 - b) mean + b E[G]    second' = (1 - b) second + b E[G^2]    spread' = sqrt(second' - mean'^2)
    w' = w spread / spread'          b' = (spread b + mean - mean') / spread'

Errors of values and advantages are divided by the spread, so neither depends on the unit of rewards.

Shapes: F features, K outputs, each with moments of its own: 1 for a single task.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST_SPREAD, LARGEST_SPREAD = 1e-2, 1e6
"""Bounds of the spread; the lower one, of V-MPO (arXiv 1909.12238), is for targets that hardly differ, as where rewards
are rare: what the network does not know yet is all that is in them."""


class Scale(NamedTuple):
    """Of targets.

    Attributes:
        mean: float64 `[K]`.
        spread: float64 `[K]`, within its bounds.
    """

    mean: Tensor
    spread: Tensor


class ValueHead(nn.Linear):
    """Features `[..., F]` to values `[..., K]` in the unit of rewards.

    Attributes:
        mean, spread: float32 `[K]`, as the head was last rewritten for.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, num_features: int, num_outputs: int = 1) -> None:
        super().__init__(num_features, num_outputs)
        self.register_buffer("mean", torch.zeros(num_outputs))
        self.register_buffer("spread", torch.ones(num_outputs))

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return F.linear(features, self.weight, self.bias) * self.spread + self.mean

    @torch.no_grad()
    def rescale(self, scale: Scale) -> None:
        """Takes a new scale, in place; values stay what they are."""
        mean, spread = scale.mean.float().double(), scale.spread.float().double()
        before = self.spread.double()
        self.weight.copy_(self.weight.double() * (before / spread)[:, None])
        self.bias.copy_((before * self.bias.double() + self.mean.double() - mean) / spread)
        self.mean.copy_(mean)
        self.spread.copy_(spread)


def sums_of(values: Tensor, valid: Tensor, task: Tensor | None, num_tasks: int) -> Tensor:
    """Count, sum and sum of squares of valid values that are finite, of each task.

    Args:
        values: `[T, B]`.
        valid: bool `[T, B]`.
        task: int64 `[T, B]`; None with a single one.
        num_tasks: K.

    Returns:
        float64 `[3, K]`.
    """
    kept = valid & values.isfinite()
    values = torch.where(kept, values, 0.0).double()
    if task is None:
        return torch.stack((kept.sum().double(), values.sum(), values.square().sum()))[:, None]
    rows = torch.stack((kept.double(), values, values.square())).flatten(1)
    return rows @ F.one_hot(task.flatten(), num_tasks).double()  # unlike a scatter, in one order on a GPU


class ValueMoments(nn.Module):
    """Running moments of value targets: what is learnt beside the network.

    Args:
        num_outputs: K.
        rate: b, the share of an update in the moments. The first updates have more, 1 / t for the t-th (b / (1 -
            (1 - b)^t), as if the average had always run), so that the scale is right from the first update on.

    Attributes:
        mean, second: moments of the targets, float64 `[K]`.
        kept: (1 - b)^t, share of what there was before the first update; float64 `[K]`.
    """

    mean: Tensor
    second: Tensor
    kept: Tensor

    def __init__(self, num_outputs: int = 1, *, rate: float) -> None:
        super().__init__()
        self._rate = rate
        self.register_buffer("mean", torch.zeros(num_outputs, dtype=torch.float64))
        self.register_buffer("second", torch.ones(num_outputs, dtype=torch.float64))
        self.register_buffer("kept", torch.ones(num_outputs, dtype=torch.float64))

    @torch.no_grad()
    def sums(self, targets: Tensor, valid: Tensor, task: Tensor | None = None) -> Tensor:
        """Count, sum and sum of squares of the targets of valid transitions, which learners may add up.

        Args:
            targets: `[T, B]`.
            valid: bool `[T, B]`.
            task: int64 `[T, B]`, which output each belongs to; None with a single one.

        Returns:
            float64 `[3, K]`.
        """
        return sums_of(targets, valid, task, len(self.mean))

    def no_sums(self) -> Tensor:
        """What no targets add."""
        return self.mean.new_zeros(3, len(self.mean))

    def scale(self, sums: Tensor | None = None) -> Scale:
        """As it is, or as it would be with some targets merged."""
        mean, second, _ = (self.mean, self.second, self.kept) if sums is None else self._merged(sums)
        spread = (second - mean.square()).clamp(min=0.0).sqrt().clamp(LEAST_SPREAD, LARGEST_SPREAD)
        return Scale(mean, spread)

    @torch.no_grad()
    def merge(self, sums: Tensor) -> None:
        """Takes in sums, in place, without asking the device for a number."""
        for ours, new in zip((self.mean, self.second, self.kept), self._merged(sums), strict=True):
            ours.copy_(new)

    def _merged(self, sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count, total, squares = sums
        kept = self.kept * (1.0 - self._rate)
        rate = self._rate / (1.0 - kept)
        changes = count > 0
        mean = torch.lerp(self.mean, total / count.clamp(min=1.0), rate)
        second = torch.lerp(self.second, squares / count.clamp(min=1.0), rate)
        pairs = ((mean, self.mean), (second, self.second), (kept, self.kept))
        new, after, share = (torch.where(changes, x, y) for x, y in pairs)
        return new, after, share
