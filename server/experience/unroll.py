"""The layout of an unroll: its rows and their fields.

An unroll holds `num_rows` L = T + 1 timesteps of one slot under one lease, contiguous, with the agent state before the
first. Row t holds timestep t and the action that answered it; transition t leads from row t to row t + 1, whose reward
and discount belong to it. Consecutive unrolls start `period` rows apart: T where they share one row, less where
sequences overlap more.

Observations are stored once each. An array of which K frames are stacked has a history of K - 1 more frames in front.
An action mask is no observation here but a field.

Shapes: S slots, L rows, B unrolls of a train batch, K stacked frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.networks.array_kinds import as_read
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


TASK = "task"
"""Field of the task that a row belongs to, 0 to K - 1, where a run has several. An environment's index may change hands
while its old unrolls wait to be learnt from, so it is recorded with each row."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One tensor of a row: a value that is recorded per step, or a part of the agent state; shape without the row."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Bytes of one."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class UnrollLayout:
    """The shape of every unroll of a run.

    Attributes:
        spec: the environment's.
        num_rows: L.
        period: rows from the start of one unroll to the start of the next; at most L - 1.
        recorded: what the algorithm adds.
        state_specs: of each part of one slot's agent state; () for feed-forward networks.
        frame_stacks: K of each array of `spec.shown`; () stacks none.
        blocks: edge of the blocks in which each is stored, and handed to a network that wants it so; () for none.
        trained_rows: the transitions of an unroll that are trained on, consecutive ones. Those before are burn-in,
            those behind are there for the returns of the others. Empty: all.
        stagger: how many neighbouring slots complete their unrolls together; 0: all. Environments of a fleet start
            together, so without it the unrolls of all of them arrive at once: more than the learner's queue holds,
            and everybody waits for it, while it waits for them the rest of the time.
        histories: frames of each array that are stored before row 0.
    """

    spec: EnvironmentSpec
    num_rows: int
    period: int
    recorded: Mapping[str, FieldSpec]
    state_specs: tuple[FieldSpec, ...] = ()
    frame_stacks: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    trained_rows: range = range(0)
    stagger: int = 0
    histories: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        ones = (1,) * len(self.spec.shown)
        object.__setattr__(self, "frame_stacks", self.frame_stacks or ones)
        object.__setattr__(self, "blocks", self.blocks or ones)
        object.__setattr__(self, "histories", tuple(frame_stack - 1 for frame_stack in self.frame_stacks))
        if not 1 <= self.period < self.num_rows or min(self.frame_stacks) < 1:
            raise ValueError(f"expected 1 <= period < num_rows and frame stacks of at least 1, got {self}")
        if not len(self.frame_stacks) == len(self.blocks) == len(ones):
            raise ValueError(f"expected a frame stack and a block for each of {len(ones)} observations, got {self}")
        trained = self.trained_rows or range(self.num_rows - 1)
        object.__setattr__(self, "trained_rows", trained)
        if not (0 <= trained.start < trained.stop < self.num_rows and trained.step == 1):
            raise ValueError(f"expected trained_rows among the {self.num_rows - 1} transitions, got {self}")
        if self.stagger and trained != range(self.num_rows - 1 - self.period, self.num_rows - 1):
            raise ValueError(f"expected unrolls to be staggered only where each trains on its last rows, got {self}")

    @property
    def frame_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of a stored frame of each observation, channels last."""
        pairs = zip(self.spec.shown, self.blocks, strict=True)
        return tuple(block_shape(as_read(spec).shape, block) for spec, block in pairs)

    def lead(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many rows shorter than L the first unroll of a lease is on these slots, `[N]`: less than `period`."""
        if not self.stagger:
            return np.zeros_like(slots)
        return (slots // self.stagger * _GOLDEN % 1 * self.period).astype(np.int64)

    @property
    def first_new(self) -> int:
        """First transition of an unroll that is trained on in it and in no unroll of the lease before, if there is one.

        Of a lease's first unroll it is the first of `trained_rows`.
        """
        return max(self.trained_rows.start, self.trained_rows.stop - self.period)

    @property
    def num_captures(self) -> int:
        """How many unrolls of one slot have begun and not ended: each needs the state it began with."""
        return -(-self.num_rows // self.period)

    def fields(self) -> dict[str, FieldSpec]:
        """Every per-row field but the observations."""
        fields = {name: FieldSpec((), dtype) for name, dtype in TIMESTEP_FIELDS.items()}
        for spec in self.spec.actions:
            action = FieldSpec(spec.shape, torch.float32 if spec.kind == "box" else torch.int64)
            fields |= {action_field(spec.name): action, last_action_field(spec.name): action}
        if self.spec.mask_position is not None:
            fields[ACTION_MASK] = FieldSpec((self.spec.num_mask_entries,), torch.uint8)
        if self.spec.num_tasks > 1:
            fields[TASK] = FieldSpec((), torch.int64)
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
        observations: one tensor for each array of `spec.shown`.
        fields: by name.
        state: `[count, ...]`, each part of the agent state before row 0.
    """

    def __init__(self, layout: UnrollLayout, count: int, device: torch.device) -> None:
        self.layout = layout
        self.count = count
        self.observations = tuple(
            torch.zeros((count, history + layout.num_rows, *shape), dtype=TORCH_DTYPES[spec.dtype], device=device)
            for spec, shape, history in zip(layout.spec.shown, layout.frame_shapes, layout.histories, strict=True)
        )
        self.fields = {
            name: torch.zeros((count, layout.num_rows, *recorded.shape), dtype=recorded.dtype, device=device)
            for name, recorded in layout.fields().items()
        }
        self.state = zero_state(layout, count, device)


def zero_state(layout: UnrollLayout, count: int, device: torch.device) -> tuple[Tensor, ...]:
    """Room for `count` agent states, `[count, ...]` for each part."""
    return tuple(torch.zeros((count, *part.shape), dtype=part.dtype, device=device) for part in layout.state_specs)


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
