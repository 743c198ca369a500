"""What inference shows to people who look at a server: policies, values, returns and the fleet, in shared memory.

The inference thread writes it, and but for who holds which slot only while somebody looks. `Look` is the one number
that says so, in a block of its own: the only one that the dashboard's process may write. Readers map the table
read-only.

Shapes: S slots.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.server.shared.memory import SharedFile, SharedTable

MAX_NUMBERS = 64
"""Most numbers of a policy that are shown."""

TRAIL_STEPS = 120
"""Newest steps of a slot whose value and reward are kept."""

LOOK_S = 1.5
"""How long a look lasts: longer than the second between two requests of a page for the fleet."""

_FLEET_BYTES = 1 << 20
_HEADER = struct.Struct("<QQI")  # numbers before and after, length
_ALIGNMENT_BYTES = 64  # a cache line

_FIELDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "environment": ("<i8", ()),
    "lease": ("<i8", ()),
    "num_numbers": ("<i4", ()),
    "policy": ("<f4", (MAX_NUMBERS,)),
    "value": ("<f4", ()),
    "version": ("<i8", ()),
    "episode_return": ("<f4", ()),
    "episode_step": ("<i4", ()),
    "begun": ("<u1", ()),
    "trail": ("<f4", (TRAIL_STEPS, 2)),
    "trail_length": ("<i8", ()),
}


class Look(SharedTable):
    """When somebody last looked; the dashboard's process writes, the inference thread reads."""

    def __init__(self) -> None:
        """Nobody has."""
        self._hold(SharedFile(8))
        self._time[0] = -math.inf

    def take(self) -> None:
        """Somebody looks now."""
        self._time[0] = time.monotonic()

    def lasts(self, now_s: float) -> bool:
        """Whether somebody looks at a moment of the monotonic clock. Asked at every batch: 0.1 us."""
        return now_s - self._time[0] < LOOK_S

    def _view(self, memory: mmap.mmap) -> None:
        self._time = memoryview(memory).cast("d")


class InsightTable(SharedTable):
    """Arrays over all slots, and the fleet as JSON.

    Attributes:
        environment: int64 `[S]`, stable index of the environment in each slot; -1 where there is none.
        lease: int64 `[S]`, serial of the lease that holds it; 0: none. Slots of a lease follow one another.
        num_numbers: int32 `[S]`, how many numbers of `policy` count; 0: nothing is shown of this slot yet.
        policy: float32 `[S, 64]`, probabilities, means and deviations, or Q-values.
        value: float32 `[S]`, NaN where the algorithm has none.
        version: int64 `[S]`, updates in the parameters that answered.
        episode_return, episode_step: float32, int32 `[S]`, sum of raw rewards and rows since the episode began or,
            where `begun` is 0, since somebody looks.
        begun: uint8 `[S]`, whether the episode began while somebody looked.
        trail: float32 `[S, 120, 2]`, value and reward of the newest steps; step i stands at i % 120.
        trail_length: int64 `[S]`, steps written since somebody looks.
    """

    environment: NDArray[np.int64]
    lease: NDArray[np.int64]
    num_numbers: NDArray[np.int32]
    policy: NDArray[np.float32]
    value: NDArray[np.float32]
    version: NDArray[np.int64]
    episode_return: NDArray[np.float32]
    episode_step: NDArray[np.int32]
    begun: NDArray[np.uint8]
    trail: NDArray[np.float32]
    trail_length: NDArray[np.int64]

    kept = ("num_slots",)

    def __init__(self, num_slots: int) -> None:
        """Allocates the table: no slot is held, nobody has looked."""
        self.num_slots = num_slots
        self._hold(SharedFile(self._lay_out()[1]))
        self.environment[:] = -1

    def begin(self, slots: NDArray[np.int64], lease: int, environments: tuple[int, ...]) -> None:
        """Slots have a new holder."""
        self.forget(slots)
        self.environment[slots] = environments
        self.lease[slots] = lease

    def end(self, slots: NDArray[np.int64]) -> None:
        """Nobody holds them any more."""
        self.lease[slots] = 0
        self.environment[slots] = -1
        self.forget(slots)

    def forget(self, slots: NDArray[np.int64] | slice) -> None:
        """What was shown of these is of another time."""
        self.num_numbers[slots] = 0
        self.begun[slots] = 0
        self.episode_return[slots] = 0
        self.episode_step[slots] = 0
        self.trail_length[slots] = 0

    def write_fleet(self, fleet: dict[str, Any]) -> bool:
        """Replaces the fleet; what is too large is not written, and False returned."""
        text = json.dumps(fleet, separators=(",", ":")).encode()
        if len(text) > _FLEET_BYTES:
            return False
        number = _HEADER.unpack_from(self._fleet)[0] + 1
        _HEADER.pack_into(self._fleet, 0, number, number - 1, len(text))
        self._fleet[_HEADER.size : _HEADER.size + len(text)] = text
        _HEADER.pack_into(self._fleet, 0, number, number, len(text))
        return True

    @property
    def fleet_number(self) -> int:
        """Counts how often the fleet was written."""
        return int(_HEADER.unpack_from(self._fleet)[0])

    def read_fleet(self) -> dict[str, Any] | None:
        """The fleet as it was last written; None before the first time, or if it is just being written."""
        before = _HEADER.unpack_from(self._fleet)
        number, same, length = before
        if not number or number != same:
            return None
        text = bytes(self._fleet[_HEADER.size : _HEADER.size + length])
        if _HEADER.unpack_from(self._fleet) != before:
            return None
        fleet: dict[str, Any] = json.loads(text)
        return fleet

    def contents(self) -> bytes:
        """Every byte; for those who want to know whether anything is written."""
        return bytes(self._memory)

    def _lay_out(self) -> tuple[dict[str, int], int]:
        """Offset of every array, the fleet's behind them, and the size of all in bytes."""
        places, size = {}, 0
        for name, (dtype, row_shape) in _FIELDS.items():
            places[name] = size
            num_bytes = self.num_slots * int(np.prod(row_shape)) * np.dtype(dtype).itemsize
            size += -(-num_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        places["fleet"] = size
        return places, size + _HEADER.size + _FLEET_BYTES

    def _view(self, memory: mmap.mmap) -> None:
        places, _ = self._lay_out()
        self._memory = memory
        for name, (dtype, row_shape) in _FIELDS.items():
            setattr(self, name, np.ndarray((self.num_slots, *row_shape), dtype, memory, places[name]))
        self._fleet = memoryview(memory)[places["fleet"] :]


@dataclass(frozen=True, slots=True)
class Sight:
    """What is shown, and who says that somebody looks: made by the server, handed to all who show it."""

    table: InsightTable
    look: Look

    @classmethod
    def of(cls, num_slots: int) -> Sight:
        """Of a server with so many slots, at which nobody looks yet."""
        return cls(InsightTable(num_slots), Look())

    def for_reading(self) -> Sight:
        """For a process that may only look."""
        return Sight(self.table.read_only(), self.look)
