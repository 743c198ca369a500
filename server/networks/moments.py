"""Running moments of observations: the accumulators behind the normalisers of a network.

They belong to what is learnt and not to what acts. Batches are merged by counts, means and sums of squares (Chan, Golub
and LeVeque 1979), so that any split of the data gives the same moments:

    n = n1 + n2    mean = m1 + (m2 - m1) n2 / n    M2 = M2_1 + M2_2 + (m2 - m1)^2 n1 n2 / n

What of a train batch goes in comes as sums about the mean known so far, which several learners may add up first. In
float64: a sum in float32 stops growing after some millions of rows.

Shapes: L rows, T = L - 1 transitions, B unrolls, E elements and channels of all arrays with moments together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.array_kinds import as_read
from seedbed.server.networks.normaliser import EPSILON, Normaliser, Normalisers, is_normalised
from seedbed.server.networks.observations import AsRead

COUNT, SUMS = "observation_count", "observation_sums"
"""Names of the sums among the moments of an update: rows, and `[2, E]` differences from the mean and their squares."""

LIMIT = 1_000_000
"""Rows after which moments are frozen, or forget as fast as they learn."""


class ObservationMoments(nn.Module):
    """Moments of all arrays of an environment that have some.

    Args:
        shown: specs of the arrays, as the environment shows them.
        limit: rows; None: moments are those of all rows for good.
        freezes: at the limit nothing changes any more; else the count stays there, which forgets exponentially.

    Attributes:
        count: rows so far, at most about the limit; float64.
        mean: float64 `[E]`.
        squares: M2, sums of squared differences from the mean; float64 `[E]`. Of an image they are means over pixels.
        shift: by how much the last merge moved a mean, in standard deviations, the largest; float32.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor
    shift: Tensor

    def __init__(self, shown: Sequence[ArraySpec], *, limit: int | None = None, freezes: bool = False) -> None:
        super().__init__()
        self._limit = limit
        self._freezes = freezes
        self._places = [index for index, spec in enumerate(shown) if is_normalised(as_read(spec))]
        specs = [shown[index] for index in self._places]
        # Lists, not modules: a learnt module has these accumulators, and no second set of normalisers.
        self._as_read = [AsRead(spec) for spec in specs]
        self._readers = [Normaliser(as_read(spec)) for spec in specs]
        size = sum(reader.size for reader in self._readers)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(()))

    @torch.no_grad()
    def sums(self, observations: Sequence[Tensor], valid: Tensor) -> Mapping[str, Tensor]:
        """What the rows before valid transitions add.

        Args:
            observations: `[L, B, K, ...]` for each array that is shown; of stacked frames the newest counts.
            valid: bool `[T, B]`; T may be less than L - 1, for the first of them.

        Returns:
            By name, float64.
        """
        num_rows = valid.shape[0]
        rows = [
            reader.places(read(observations[place][:num_rows].flatten(0, 1)[:, -1:]).double()).squeeze(1)
            for place, read, reader in zip(self._places, self._as_read, self._readers, strict=True)
        ]
        kept = valid.flatten()
        for array in rows:  # a number that is not finite would stay in the moments for good
            kept = kept & array.isfinite().flatten(1).all(1)
        sums = []
        for array, mean in zip(rows, self.mean.split([reader.size for reader in self._readers]), strict=True):
            differences = torch.where(kept[:, None, None], array - mean, 0.0)
            sums.append(torch.stack((differences.mean(1).sum(0), differences.square().mean(1).sum(0))))
        return {COUNT: kept.sum().double(), SUMS: torch.cat(sums, dim=1)}

    def no_sums(self) -> Mapping[str, Tensor]:
        """What no rows add."""
        return {COUNT: torch.zeros_like(self.count), SUMS: self.mean.new_zeros(2, len(self.mean))}

    @torch.no_grad()
    def merge(self, moments: Mapping[str, Tensor]) -> None:
        """Takes in sums, in place, without asking the device for a number."""
        added, (total, squares) = moments[COUNT], moments[SUMS]
        before, old_squares = self.count, self.squares
        if self._limit is not None and not self._freezes:
            kept = torch.minimum(before, (self._limit - added).clamp(min=0.0))
            old_squares = old_squares * (kept / before.clamp(min=1.0))
            before = kept
        count = before + added
        moved = total / added.clamp(min=1.0)  # the batch's mean, from the one so far
        new_squares = (
            old_squares + squares - added * moved.square() + moved.square() * (before * added / count.clamp(min=1.0))
        )
        mean = self.mean + moved * (added / count.clamp(min=1.0))
        changes = added > 0
        if self._limit is not None and self._freezes:
            changes = changes & (self.count < self._limit)
        deviation = (new_squares.clamp(min=0.0) / count.clamp(min=1.0) + EPSILON).sqrt()
        shift = ((mean - self.mean).abs() / deviation).amax().float()
        self.shift.copy_(torch.where(changes, shift, 0.0))
        self.count.copy_(torch.where(changes, count, self.count))
        self.mean.copy_(torch.where(changes, mean, self.mean))
        self.squares.copy_(torch.where(changes, new_squares.clamp(min=0.0), self.squares))

    @torch.no_grad()
    def write(self, learnt: nn.Module) -> None:
        """Puts the moments into all normalisers in what is learnt, in place; nothing before the first row."""
        sizes = [reader.size for reader in self._readers]
        inv_std = (self.squares / self.count.clamp(min=1.0) + EPSILON).rsqrt()
        pairs = list(zip(self.mean.split(sizes), inv_std.split(sizes), strict=True))
        for module in learnt.modules():
            if not isinstance(module, Normalisers):
                continue
            for normaliser, (mean, scale) in zip(module.active, pairs, strict=True):
                normaliser.mean.copy_(torch.where(self.count > 0, mean.float(), normaliser.mean))
                normaliser.inv_std.copy_(torch.where(self.count > 0, scale.float(), normaliser.inv_std))
