"""What unrolls must hold, from streams kept in plain lists: slow, and without index arithmetic shared with the store.

`Streams` makes up timesteps whose data identifies itself: an observation is (slot, lease, number within the lease), the
agent state before a row is the same three numbers, and every other field is a function of them. A misplaced row is
then an arithmetic fact. `expected_unrolls` cuts the lists into the unrolls that must come out.

Shapes: L rows of an unroll, K stacked frames, N rows of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.unroll import FieldSpec, Provenance, UnrollLayout

SPEC = EnvironmentSpec(
    environment="numbers",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(3,)),),
    actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(6,), kind="discrete"),),
)

Slots = NDArray[np.int64]


def numbers_layout(num_rows: int, period: int, frame_stack: int, stagger: int = 0) -> UnrollLayout:
    """A layout for the rows of `Streams`: one recorded vector, one state vector."""
    return UnrollLayout(
        spec=SPEC,
        num_rows=num_rows,
        period=period,
        frame_stack=frame_stack,
        recorded={"logits": FieldSpec((2,), torch.float32)},
        state_shapes=((3,),),
        stagger=stagger,
    )


@dataclass
class Row:
    """One timestep of one slot, its action and the agent state before it."""

    observation: list[float]
    step_type: int
    age: int
    values: dict[str, float | list[float]]


@dataclass
class LeaseLog:
    """All rows that one lease sent."""

    slot: int
    serial: int
    rows: list[Row] = field(default_factory=list)

    def stack(self, t: int, frame_stack: int) -> list[list[float]]:
        """Frames t - K + 1 .. t, those before the episode's FIRST zero."""
        frames: list[list[float]] = []
        in_episode = True
        for s in range(t, t - frame_stack, -1):
            frames.append(self.rows[s].observation if in_episode else [0.0, 0.0, 0.0])
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
            assert batch.observations[0][t, b].tolist() == self.log.stack(self.start + t, layout.frame_stack)
            for name, value in row.values.items():
                assert batch.fields[name][t, b].tolist() == value, name
        identity = [float(self.log.slot), float(self.log.serial), float(self.start)]
        assert batch.state[0][b].tolist() == identity, "not the state that enters row 0"
        valid = [
            t + 1 < self.length and self.log.rows[self.start + t].step_type != StepType.LAST
            for t in range(layout.num_rows - 1)
        ]
        assert batch.valid[:, b].tolist() == valid


def complete_unrolls(log: LeaseLog, layout: UnrollLayout) -> list[ExpectedUnroll]:
    """The full unrolls that a lease's rows make, in order."""
    (lead,) = layout.lead(np.array([log.slot])).tolist()
    starts = range(-lead, max(0, len(log.rows) - layout.num_rows + 1), layout.period)
    ends = [(max(0, start), start + layout.num_rows) for start in starts]
    return [ExpectedUnroll(log, start, end - start) for start, end in ends if end <= len(log.rows)]


def cut_unroll(log: LeaseLog, layout: UnrollLayout) -> ExpectedUnroll | None:
    """What the end of a lease adds: the rows after the last full unroll's start, if one of them is new."""
    full = complete_unrolls(log, layout)
    known = full[-1].start + full[-1].length if full else 1  # rows; a single row is no transition
    start = known - (layout.num_rows - layout.period) if full else 0
    return ExpectedUnroll(log, start, len(log.rows) - start) if len(log.rows) > known else None


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
        fields, observations = self._observe(store, slots)
        return store.append(slots, fields, (observations.clone(),))  # the state is a counter too

    def hold(self, store: OpenUnrolls, slots: Slots) -> None:
        """Sends the next timestep as the last row of each unroll, without an answer; `step` sends the same again."""
        fields, _ = self._observe(store, slots)
        answers = ("action.action", "policy_version", "logits")
        store.bootstrap(slots, {name: values for name, values in fields.items() if name not in answers})
        self._held |= {slot: self.open[slot].rows.pop() for slot in slots.tolist()}

    def _observe(self, store: OpenUnrolls, slots: Slots) -> tuple[dict[str, Tensor], Tensor]:
        rows = [self._next_row(self.open[slot]) for slot in slots.tolist()]
        observations = torch.tensor([row.observation for row in rows]).reshape(-1, 3)
        (stacks,) = store.observe(slots, [observations], torch.tensor([row.age for row in rows], dtype=torch.int64))
        for slot, stack in zip(slots.tolist(), stacks.tolist(), strict=True):
            log = self.open[slot]
            assert stack == log.stack(len(log.rows) - 1, store.layout.frame_stack)
        fields: dict[str, Tensor] = {
            name: torch.tensor([row.values[name] for row in rows], dtype=spec.dtype).reshape(-1, *spec.shape)
            for name, spec in store.layout.fields().items()
        }
        return fields, observations

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
            observation=[float(log.slot), float(log.serial), float(seq)],
            step_type=int(step_type),
            age=age,
            values={
                "step_type": int(step_type),
                "reward": key + 0.5,
                "discount": float(seq % 2),
                "last_action.action": key + 1,
                "action.action": key + 2,
                "age": age,
                "policy_version": seq,
                "logits": [float(key), float(-key)],
            },
        )
        log.rows.append(row)
        return row
