"""What unrolls must hold, from streams kept in plain lists: slow, and without index arithmetic shared with the store.

`Streams` makes up timesteps whose data identifies itself: the first observation is (slot, lease, number within the
lease), as the first part of the agent state before a row is, and everything else is a function of the three: images in
blocks, a bare counter and a mask; two kinds of actions; whole numbers, bytes and bfloat16 in the state. A misplaced row
is then an arithmetic fact. `expected_unrolls` cuts the lists into the unrolls that must come out.

Shapes: L rows of an unroll, K stacked frames, N rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.unroll import TORCH_DTYPES, FieldSpec, Provenance, UnrollLayout

MASK = ArraySpec(name="mask", dtype="uint8", shape=(7,), low=(0,), high=(1,), kind="binary", role="action_mask")
SPEC = EnvironmentSpec(
    environment="numbers",
    observations=(
        ArraySpec(name="numbers", dtype="float32", shape=(3,)),
        MASK,
        ArraySpec(name="image", dtype="uint8", shape=(2, 4)),
        ArraySpec(name="counter", dtype="int64"),
    ),
    actions=(
        ArraySpec(name="action", dtype="int64", low=(0,), high=(6,), kind="discrete"),
        ArraySpec(name="torque", dtype="float32", shape=(2,), low=(-1,), high=(1,)),
    ),
)
BLOCK = 2
STATE = (
    FieldSpec((3,), torch.float32),
    FieldSpec((), torch.int64),
    FieldSpec((2,), torch.uint8),
    FieldSpec((1, 2), torch.bfloat16),
)

Slots = NDArray[np.int64]


def numbers_layout(
    num_rows: int, period: int, frame_stack: int, stagger: int = 0, trained_rows: range = range(0)
) -> UnrollLayout:
    """A layout for the rows of `Streams`: the first array stacked as asked, images one deeper, counters never."""
    return UnrollLayout(
        spec=SPEC,
        num_rows=num_rows,
        period=period,
        frame_stacks=(frame_stack, frame_stack + 1, 1),
        blocks=(1, BLOCK, 1),
        recorded={"logits": FieldSpec((2,), torch.float32)},
        state_specs=STATE,
        stagger=stagger,
        trained_rows=trained_rows,
    )


@dataclass
class Row:
    """One timestep of one slot, its actions and the number of the row, of which everything else is made."""

    slot: int
    serial: int
    seq: int
    step_type: int
    age: int
    values: dict[str, Any]

    @property
    def observation(self) -> list[float]:
        """The first array."""
        return [float(self.slot), float(self.serial), float(self.seq)]

    @property
    def sent(self) -> tuple[Any, ...]:
        """Every array of `SPEC.shown` as the environment gives it."""
        pixels = np.array([self.seq, self.serial, self.slot, 1, 2, 3, 4, 5]) + 10 * self.seq
        return self.observation, (pixels % 251 + 1).reshape(2, 4).tolist(), 10_000 * self.serial + self.seq

    @property
    def stored(self) -> tuple[Any, ...]:
        """The same as they are kept: the pixels of each square of an image side by side."""
        vector, image, counter = self.sent
        squares = [[image[y][x] for y in range(2) for x in range(left, left + 2)] for left in (0, 2)]
        return vector, [squares], counter

    @property
    def state(self) -> tuple[Any, ...]:
        """The agent state before this row."""
        return self.observation, 2**40 + self.seq, [self.seq % 256, self.slot], [[self.slot, self.seq % 128]]


@dataclass
class LeaseLog:
    """All rows that one lease sent."""

    slot: int
    serial: int
    rows: list[Row] = field(default_factory=list)

    def stack(self, t: int, frame_stack: int, array: int = 0) -> list[Any]:
        """Frames t - K + 1 .. t of an array, those before the episode's FIRST zero."""
        frames: list[Any] = []
        in_episode = True
        for s in range(t, t - frame_stack, -1):
            stored = self.rows[max(s, 0)].stored[array]
            frames.append(stored if in_episode else np.zeros_like(stored).tolist())
            in_episode = in_episode and self.rows[s].step_type != StepType.FIRST
        return frames[::-1]


@dataclass(frozen=True)
class ExpectedUnroll:
    """Rows `start .. start + length - 1` of a lease."""

    log: LeaseLog
    start: int
    length: int

    @property
    def provenance(self) -> Provenance:
        """As the store must describe it; the environment of slot s is 100 + s."""
        return Provenance(self.log.slot, self.log.serial, 100 + self.log.slot, self.start, self.length)

    def check(self, batch: TrainBatch, b: int, layout: UnrollLayout) -> None:
        """Asserts that unroll `b` of a train batch is this one."""
        assert batch.provenance[b] == self.provenance
        for t in range(self.length):
            row = self.log.rows[self.start + t]
            for array, frame_stack in enumerate(layout.frame_stacks):
                stack = self.log.stack(self.start + t, frame_stack, array)
                assert batch.observations[array][t, b].tolist() == stack, SPEC.shown[array].name
            for name, value in row.values.items():
                assert batch.fields[name][t, b].tolist() == value, name
        check_state([part[b] for part in batch.state], self.log.rows[self.start])
        valid = [
            t + 1 < self.length and self.log.rows[self.start + t].step_type != StepType.LAST
            for t in range(layout.num_rows - 1)
        ]
        assert batch.valid[:, b].tolist() == valid


def check_state(parts: Sequence[Tensor], row: Row) -> None:
    """Asserts that an agent state is the one that enters a row, exactly and in its own dtypes."""
    assert [part.dtype for part in parts] == [spec.dtype for spec in STATE]
    for part, expected in zip(parts, row.state, strict=True):
        assert part.tolist() == expected, "not the state that enters row 0"


def complete_unrolls(log: LeaseLog, layout: UnrollLayout) -> list[ExpectedUnroll]:
    """The full unrolls that a lease's rows make, in order."""
    (lead,) = layout.lead(np.array([log.slot])).tolist()
    starts = range(-lead, max(0, len(log.rows) - layout.num_rows + 1), layout.period)
    ends = [(max(0, start), start + layout.num_rows) for start in starts]
    return [ExpectedUnroll(log, start, end - start) for start, end in ends if end <= len(log.rows)]


def cut_unroll(log: LeaseLog, layout: UnrollLayout) -> ExpectedUnroll | None:
    """What the end of a lease adds: the rows after the last full unroll's start, if one is to be trained on and new."""
    full = complete_unrolls(log, layout)
    start = full[-1].start + full[-1].length - (layout.num_rows - layout.period) if full else 0
    seen = {t for unroll in full for t in trained_seqs(unroll, layout)}
    unroll = ExpectedUnroll(log, start, len(log.rows) - start)
    return unroll if trained_seqs(unroll, layout) - seen else None


def trained_seqs(unroll: ExpectedUnroll | Provenance, layout: UnrollLayout) -> set[int]:
    """Transitions that an unroll trains on, by their number within the lease."""
    start = unroll.start if isinstance(unroll, ExpectedUnroll) else unroll.first_seq
    return {start + t for t in layout.trained_rows if t < unroll.length - 1}


class Streams:
    """Random, self-identifying timesteps for slots that need not move in step."""

    def __init__(self, num_slots: int, seed: int, end_probability: float = 0.25) -> None:
        self.random = np.random.default_rng(seed)
        self.num_slots = num_slots
        self._end_probability = end_probability
        self._serials = 0
        self._held: dict[int, Row] = {}
        self.open: dict[int, LeaseLog] = {}
        self.ended: list[LeaseLog] = []

    def begin(self, store: OpenUnrolls, slots: Slots) -> None:
        """Leases each slot anew, and tells the store."""
        for slot in slots.tolist():
            self._serials += 1
            self.open[slot] = LeaseLog(slot, self._serials)
            store.begin(np.array([slot]), self._serials, [100 + slot])

    def end(self, slots: Slots) -> list[LeaseLog]:
        """The leases of these slots are over."""
        logs = [self.open.pop(slot) for slot in slots.tolist()]
        self.ended += logs
        return logs

    def some(self) -> Slots:
        """A random set of leased slots in random order, perhaps empty."""
        chosen = [slot for slot in self.open if self.random.random() < 0.6]
        return self.random.permutation(np.array(chosen, np.int64))

    def step(self, store: OpenUnrolls, slots: Slots) -> Slots:
        """Sends the next timestep of these slots into the store, checks the stacks it gives back, and completes rows.

        Returns:
            The slots whose unroll is complete.
        """
        if not len(slots):
            return slots
        fields, states = self._observe(store, slots)
        return store.append(slots, fields, states)

    def hold(self, store: OpenUnrolls, slots: Slots) -> None:
        """Sends the next timestep as the last row of each unroll, without an answer; `step` sends the same again."""
        fields, _ = self._observe(store, slots)
        answers = ("action.action", "action.torque", "policy_version", "logits")
        store.bootstrap(slots, {name: values for name, values in fields.items() if name not in answers})
        self._held |= {slot: self.open[slot].rows.pop() for slot in slots.tolist()}

    def _observe(self, store: OpenUnrolls, slots: Slots) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        rows = [self._next_row(self.open[slot]) for slot in slots.tolist()]
        observations = [
            torch.tensor([row.sent[i] for row in rows], dtype=TORCH_DTYPES[spec.dtype]).reshape(-1, *spec.shape)
            for i, spec in enumerate(SPEC.shown)
        ]
        stacks = store.observe(slots, observations, torch.tensor([row.age for row in rows], dtype=torch.int64))
        for array, (stack, frame_stack) in enumerate(zip(stacks, store.layout.frame_stacks, strict=True)):
            for slot, found in zip(slots.tolist(), stack.tolist(), strict=True):
                log = self.open[slot]
                assert found == log.stack(len(log.rows) - 1, frame_stack, array), SPEC.shown[array].name
        fields: dict[str, Tensor] = {
            name: torch.tensor([row.values[name] for row in rows], dtype=spec.dtype).reshape(-1, *spec.shape)
            for name, spec in store.layout.fields().items()
        }
        states = tuple(
            torch.tensor([row.state[i] for row in rows], dtype=spec.dtype).reshape(-1, *spec.shape)
            for i, spec in enumerate(store.layout.state_specs)
        )
        return fields, states

    def _next_row(self, log: LeaseLog) -> Row:
        if log.slot in self._held:
            log.rows.append(self._held.pop(log.slot))
            return log.rows[-1]
        seq = len(log.rows)
        previous = log.rows[-1] if log.rows else None
        if previous is None or previous.step_type == StepType.LAST:
            step_type, age = StepType.FIRST, 0
        else:
            ends = self.random.random() < self._end_probability
            step_type, age = (StepType.LAST if ends else StepType.MID), previous.age + 1
        key = 10_000 * log.serial + seq
        row = Row(
            slot=log.slot,
            serial=log.serial,
            seq=seq,
            step_type=int(step_type),
            age=age,
            values={
                "step_type": int(step_type),
                "reward": key + 0.5,
                "discount": float(seq % 2),
                "last_action.action": key + 1,
                "action.action": key + 2,
                "last_action.torque": [key + 0.25, -key],
                "action.torque": [key + 0.75, -key - 1],
                "action_mask": [key // 2**bit % 2 for bit in range(7)],
                "age": age,
                "policy_version": seq,
                "logits": [float(key), float(-key)],
            },
        )
        log.rows.append(row)
        return row
