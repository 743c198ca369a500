"""A train batch: unrolls that are learnt from together.

Shapes: L rows, B unrolls of a train batch, K stacked frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.timestep import StepType
from seedbed.server.experience.transfer import put
from seedbed.server.experience.unroll import Provenance


@dataclass(frozen=True, slots=True)
class Sample:
    """How the unrolls of a batch were drawn from a replay.

    Attributes:
        places, generations: int64 `[B]`, which place, and how often it had been written: together, which unroll.
        weights: float32 `[B]` on the device, importance weights, 1 for the largest.
    """

    places: NDArray[np.int64]
    generations: NDArray[np.int64]
    weights: Tensor


class Windows(Sequence[Provenance]):
    """Provenance of a few rows of each of many unrolls, made where somebody looks: it would take longer than a draw.

    Attributes:
        lengths: int64 `[B]`, rows of each that were received.
    """

    def __init__(
        self, unrolls: Sequence[Provenance], first_rows: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> None:
        """Rows `first_rows` `[B]` and those behind them."""
        self.lengths = lengths
        self._unrolls = unrolls
        self._first_rows = first_rows

    def __len__(self) -> int:
        """B."""
        return len(self._unrolls)

    @overload
    def __getitem__(self, index: int) -> Provenance: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Provenance]: ...
    def __getitem__(self, index: int | slice) -> Provenance | Sequence[Provenance]:
        """Of one, or of several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        unroll = self._unrolls[index]
        return replace(
            unroll, first_seq=unroll.first_seq + int(self._first_rows[index]), length=int(self.lengths[index])
        )


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """B unrolls, time-major.

    Attributes:
        observations: one tensor `[L, B, K, ...]` for each array of `spec.shown`, stale frames already zero.
        fields: `[L, B, ...]` by name; see `TIMESTEP_FIELDS` and the algorithm's `recorded`.
        state: `[B, ...]`, the agent state before row 0.
        valid: bool `[L - 1, B]`: transition t was received and is none of the dummies from LAST to FIRST.
        provenance: of each unroll.
        trained_rows: the transitions that are trained on; the others are burn-in or lookahead.
        sample: how a replay drew them; None from a queue.
        oldest_version: of the policies that acted in valid transitions, as far as the host knows it; None: it does not.
    """

    observations: tuple[Tensor, ...]
    fields: Mapping[str, Tensor]
    state: tuple[Tensor, ...]
    valid: Tensor
    provenance: Sequence[Provenance]
    trained_rows: range
    sample: Sample | None = None
    oldest_version: int | None = None

    @property
    def num_transitions(self) -> int:
        """Transitions that were received and are to be trained on, masked ones included."""
        start, stop = self.trained_rows.start, self.trained_rows.stop
        if isinstance(self.provenance, Windows):
            return int((self.provenance.lengths - 1).clip(start, stop).sum()) - start * len(self.provenance)
        return sum(len(range(start, min(stop, source.length - 1))) for source in self.provenance)

    @property
    def num_valid(self) -> Tensor:
        """How many of them are not masked; int64, on the device."""
        return self.valid[self.trained_rows.start : self.trained_rows.stop].sum()

    def select(self, unrolls: Tensor, index: Tensor | None = None) -> TrainBatch:
        """Some of the unrolls as a batch of their own; not for one from a replay.

        Args:
            unrolls: int64 indices on the host.
            index: the same where the batch is, if they are there already.
        """
        assert self.sample is None
        if index is None:
            index = put(unrolls, self.valid.device)
        return TrainBatch(
            observations=tuple(array.index_select(1, index) for array in self.observations),
            fields={name: array.index_select(1, index) for name, array in self.fields.items()},
            state=tuple(part.index_select(0, index) for part in self.state),
            valid=self.valid.index_select(1, index),
            provenance=tuple(self.provenance[unroll] for unroll in unrolls.tolist()),
            trained_rows=self.trained_rows,
        )


def valid_transitions(step_type: Tensor, length: Tensor) -> Tensor:
    """Which transitions of unrolls may be trained on.

    Args:
        step_type: uint8 `[L, B]`.
        length: int64 `[B]`, rows received.

    Returns:
        bool `[L - 1, B]`.
    """
    arrived = torch.arange(1, step_type.shape[0], device=step_type.device)[:, None] < length
    return arrived & (step_type[:-1] != StepType.LAST)
