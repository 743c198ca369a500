"""The layout of an unroll: its rows and their fields.

An unroll holds `num_rows` L = T + 1 timesteps of one slot under one lease, contiguous, with the agent state before the
first. Row t holds timestep t and the action that answered it; transition t leads from row t to row t + 1, whose reward
and discount belong to it. Consecutive unrolls start `period` rows apart: T where they share one row, less where
sequences overlap more.

Observations are stored once each. For a stack of K frames, each unroll has `history` = K - 1 more frames in front.

Shapes: S slots, L rows, B unrolls of a train batch, K stacked frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.networks.observations import block_shape

TORCH_DTYPES = {"uint8": torch.uint8, "int32": torch.int32, "int64": torch.int64, "float32": torch.float32}

_GOLDEN = (5**0.5 - 1) / 2  # multiples of it, modulo 1, spread evenly however many there are

TIMESTEP_FIELDS: Mapping[str, torch.dtype] = {
    "step_type": torch.uint8,
    "reward": torch.float32,
    "discount": torch.float32,
    "age": torch.int64,
    "policy_version": torch.int64,
}
"""Recorded for every algorithm, beside the fields of actions and mask. `age` counts steps since FIRST;
`policy_version` is the one that acted."""

ACTION = "action."
"""What the names of fields begin with that hold samples of actions; the name of the action array follows."""

LAST_ACTION = "last_action."
"""The same for actions as they were sent in answer to the row before; 0 at FIRST."""

ACTION_MASK = "action_mask"
"""Field of the row's action mask, where the environment has one."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One value that an algorithm records per step, beside the timestep."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class UnrollLayout:
    """The shape of every unroll of a run.

    Attributes:
        spec: the environment's.
        num_rows: L.
        period: rows from the start of one unroll to the start of the next; at most L - 1.
        frame_stack: K.
        recorded: what the algorithm adds.
        state_shapes: shape of each tensor of one slot's agent state; () for feed-forward networks.
        pixel_block: edge of the blocks in which images are stored, and handed to the network that wants them so.
        stagger: how many neighbouring slots complete their unrolls together; 0: all. Environments of a fleet start
            together, so without it the unrolls of all of them arrive at once: more than the learner's queue holds,
            and everybody waits for it, while it waits for them the rest of the time.
    """

    spec: EnvironmentSpec
    num_rows: int
    period: int
    frame_stack: int
    recorded: Mapping[str, FieldSpec]
    state_shapes: tuple[tuple[int, ...], ...]
    pixel_block: int = 1
    stagger: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.period < self.num_rows or self.frame_stack < 1:
            raise ValueError(f"expected 1 <= period < num_rows and frame_stack >= 1, got {self}")
        if self.stagger and self.period != self.num_rows - 1:
            raise ValueError(f"expected unrolls to be staggered only where they share one row, got {self}")

    @property
    def frame_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of a stored frame of each observation."""
        return tuple(block_shape(tuple(spec.shape), self.pixel_block) for spec in self.spec.observations)

    @property
    def history(self) -> int:
        """Frames stored before row 0."""
        return self.frame_stack - 1

    def lead(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many rows shorter than L the first unroll of a lease is on these slots, `[N]`: less than `period`."""
        if not self.stagger:
            return np.zeros_like(slots)
        return (slots // self.stagger * _GOLDEN % 1 * self.period).astype(np.int64)

    @property
    def num_captures(self) -> int:
        """How many unrolls of one slot have begun and not ended: each needs the state it began with."""
        return -(-self.num_rows // self.period)

    def fields(self) -> dict[str, FieldSpec]:
        """Every per-row field but the observations."""
        fields = {name: FieldSpec((), dtype) for name, dtype in TIMESTEP_FIELDS.items()}
        for spec in self.spec.actions:
            field = FieldSpec(spec.shape, torch.float32 if spec.kind == "box" else torch.int64)
            fields |= {action_field(spec.name): field, last_action_field(spec.name): field}
        if self.spec.mask_position is not None:
            fields[ACTION_MASK] = FieldSpec((self.spec.num_mask_entries,), torch.uint8)
        return fields | dict(self.recorded)


def action_field(name: str) -> str:
    """The field of the samples of an action array."""
    return f"{ACTION}{name}"


def last_action_field(name: str) -> str:
    """The field of an action array as it was sent in answer to the row before."""
    return f"{LAST_ACTION}{name}"


class UnrollRows:
    """Storage for `count` unrolls: observations `[count, history + L, ...]`, fields `[count, L, ...]`, all at once.

    Attributes:
        observations: one tensor for each observation of the spec.
        fields: by name.
        state: `[count, ...]`, the agent state before row 0.
    """

    def __init__(self, layout: UnrollLayout, count: int, device: torch.device) -> None:
        self.layout = layout
        self.count = count
        long = layout.history + layout.num_rows
        self.observations = tuple(
            torch.zeros((count, long, *shape), dtype=TORCH_DTYPES[spec.dtype], device=device)
            for spec, shape in zip(layout.spec.observations, layout.frame_shapes, strict=True)
        )
        self.fields = {
            name: torch.zeros((count, layout.num_rows, *field.shape), dtype=field.dtype, device=device)
            for name, field in layout.fields().items()
        }
        self.state = tuple(torch.zeros((count, *shape), device=device) for shape in layout.state_shapes)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where one unroll comes from; host numbers, for accounting and for proofs.

    Attributes:
        slot, lease: who; `lease` is the serial number of the lease.
        environment_index: stable index of the environment.
        first_seq: number of row 0 within its lease; row t is `first_seq + t`.
        length: rows that were really received, at most L. The rest is masked.
    """

    slot: int
    lease: int
    environment_index: int
    first_seq: int
    length: int
