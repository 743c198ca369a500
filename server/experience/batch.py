"""A train batch: unrolls that are learnt from together.

Shapes: L rows, B unrolls of a train batch, K stacked frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.timestep import StepType
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
    """

    observations: tuple[Tensor, ...]
    fields: Mapping[str, Tensor]
    state: tuple[Tensor, ...]
    valid: Tensor
    provenance: tuple[Provenance, ...]
    trained_rows: range
    sample: Sample | None = None

    @property
    def num_transitions(self) -> int:
        """Transitions that were received and are to be trained on, masked ones included."""
        start, stop = self.trained_rows.start, self.trained_rows.stop
        return sum(len(range(start, min(stop, source.length - 1))) for source in self.provenance)

    @property
    def num_valid(self) -> Tensor:
        """How many of them are not masked; int64, on the device."""
        return self.valid[self.trained_rows.start : self.trained_rows.stop].sum()

    def select(self, unrolls: Tensor) -> TrainBatch:
        """Some of the unrolls, int64 indices on the host, as a batch of their own; not for one from a replay."""
        assert self.sample is None
        index = unrolls.to(self.valid.device)
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
