"""The slot table: one row in shared memory for each environment a server can hold.

Frontends copy observations in, the device process writes actions out; neither ever waits for the other here, because a
lease has at most one Steps in flight and the channel (`id_channel.py`) tells each side when it is its turn. What must
survive a frontend lives here too: the numbers of the last Steps accepted and answered, and the answer itself, which
stays in its rows until the next Steps.

A frontend may die between any two writes. So `accepted_seq` is written last, in one piece, and what the next Steps is
checked against belongs to a number: `was_last` has a column for even and one for odd numbers, and what stands under the
accepted one is not touched before the next is accepted.

Who reads rows at any time, without being told that it is its turn, may find half of them new. So `begun_seq` is written
first: a copy is whole where `begun_seq` equals `accepted_seq`, and both are the same before and after. (Processors that
keep stores in order, as x86 does, and the interpreter's own work between two of them on others, make that hold.)

Shapes: S slots.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import DISCOUNT_DTYPE, REWARD_DTYPE, STEP_TYPE_DTYPE, Array, StepType, Timesteps
from seedbed.server.shared.memory import SharedFile, SharedTable

_ALIGNMENT_BYTES = 64  # a cache line: no two arrays share one
_LAST = int(StepType.LAST)  # numpy compares with an enumeration five times slower


class SlotTable(SharedTable):
    """Arrays over all slots, in memory shared between the device process and its frontends.

    A lease is named by its first slot. Its sequence numbers stand in that slot's row.

    Attributes:
        observations: one array `[S, ...]` for each observation of the spec.
        actions: one array `[S, ...]` for each action of the spec.
        step_type: uint8 `[S]`.
        reward, discount: float32 `[S]`.
        was_last: bool `[S, 2]`, whether the row was LAST in Steps `seq`, in column `seq % 2`.
        begun_seq: uint64 `[S]`, the last Steps a frontend has begun to copy in.
        accepted_seq: uint64 `[S]`, the last Steps a frontend has copied in.
        answered_seq: uint64 `[S]`, the last Steps whose actions stand in `actions`.
        policy_version: uint64 `[S]`, updates in the parameters that answered.
        accepted_s, answered_s: float64 `[S]`, when those two were written, by the monotonic clock all processes share.
    """

    observations: tuple[Array, ...]
    actions: tuple[Array, ...]
    step_type: NDArray[np.uint8]
    reward: NDArray[np.float32]
    discount: NDArray[np.float32]
    was_last: NDArray[np.bool_]
    begun_seq: NDArray[np.uint64]
    accepted_seq: NDArray[np.uint64]
    answered_seq: NDArray[np.uint64]
    policy_version: NDArray[np.uint64]
    accepted_s: NDArray[np.float64]
    answered_s: NDArray[np.float64]

    kept = ("spec", "num_slots")

    def __init__(self, spec: EnvironmentSpec, num_slots: int) -> None:
        """Allocates the table; all of it is zero.

        Args:
            spec: gives dtypes and shapes of observations and actions.
            num_slots: S.
        """
        self.spec = spec
        self.num_slots = num_slots
        self._hold(SharedFile(self._lay_out()[1]))

    def accept(self, lease: int, num_rows: int, seq: int, rows: Timesteps) -> None:
        """Copies one Steps into the rows of a lease (frontend side)."""
        where = slice(lease, lease + num_rows)
        self.begun_seq[lease] = seq
        for table, array in zip(self.observations, rows.observations, strict=True):
            table[where] = array
        self.step_type[where] = rows.step_type
        self.reward[where] = rows.reward
        self.discount[where] = rows.discount
        self.accepted_s[lease] = time.monotonic()
        self.was_last[where, seq % 2] = rows.step_type == _LAST
        self.accepted_seq[lease] = seq

    def expects_first(self, lease: int, num_rows: int) -> NDArray[np.bool_]:
        """Which rows of the next Steps must be FIRST, `[E]`: those that were LAST, and all of a new lease."""
        return self.was_last[lease : lease + num_rows, int(self.accepted_seq[lease]) % 2]

    def clear(self, lease: int, num_rows: int) -> None:
        """Makes rows ready for a new lease (device side): their next timestep must be FIRST, its seq 1."""
        self.was_last[lease : lease + num_rows] = True
        self.begun_seq[lease] = 0
        self.accepted_seq[lease] = 0
        self.answered_seq[lease] = 0

    def answer(self, slots: NDArray[np.int64], actions: Sequence[Array], policy_version: int) -> None:
        """Writes the actions of an inference batch `[N, ...]` into its rows (device side)."""
        for table, array in zip(self.actions, actions, strict=True):
            table[slots] = array
        self.policy_version[slots] = policy_version

    def _fields(self) -> dict[str, list[tuple[np.dtype[Any], tuple[int, ...]]]]:
        return {
            "observations": [(spec.numpy_dtype, spec.shape) for spec in self.spec.observations],
            "actions": [(spec.numpy_dtype, spec.shape) for spec in self.spec.actions],
            "step_type": [(STEP_TYPE_DTYPE, ())],
            "reward": [(REWARD_DTYPE, ())],
            "discount": [(DISCOUNT_DTYPE, ())],
            "was_last": [(np.dtype(np.bool_), (2,))],
            "begun_seq": [(np.dtype("<u8"), ())],
            "accepted_seq": [(np.dtype("<u8"), ())],
            "answered_seq": [(np.dtype("<u8"), ())],
            "policy_version": [(np.dtype("<u8"), ())],
            "accepted_s": [(np.dtype("<f8"), ())],
            "answered_s": [(np.dtype("<f8"), ())],
        }

    def _lay_out(self) -> tuple[dict[str, list[tuple[int, np.dtype[Any], tuple[int, ...]]]], int]:
        """Offset, dtype and shape of every array, one after the other, and the size of them all in bytes."""
        places: dict[str, list[tuple[int, np.dtype[Any], tuple[int, ...]]]] = {}
        size = 0
        for name, parts in self._fields().items():
            places[name] = []
            for dtype, row_shape in parts:
                shape = (self.num_slots, *row_shape)
                places[name].append((size, dtype, shape))
                num_bytes = int(np.prod(shape)) * dtype.itemsize
                size += -(-num_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        return places, size

    def _view(self, memory: mmap.mmap) -> None:
        places, _ = self._lay_out()
        for name, found in places.items():
            arrays = tuple(np.ndarray(shape, dtype, memory, offset) for offset, dtype, shape in found)
            setattr(self, name, arrays if name in ("observations", "actions") else arrays[0])
