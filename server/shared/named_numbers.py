"""Numbers whose names are only known as a run goes on, in shared memory: one process writes, anybody reads.

There is room for so many names; the first that come have it. A name is written before its number counts.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping

from seedbed.common.info_numbers import MAX_NUMBERS
from seedbed.server.shared.memory import SharedFile, SharedTable

_PLACE = struct.Struct("<64sd")


class NamedNumbers(SharedTable):
    """A table of names, of at most 64 ASCII characters each, and numbers."""

    kept = ("_size",)

    def __init__(self, size: int = MAX_NUMBERS) -> None:
        """Has room for `size` names."""
        self._size = size
        self._hold(SharedFile(size * _PLACE.size))

    def write(self, numbers: Mapping[str, float]) -> None:
        """Replaces the numbers of these names; those that find no place are left out."""
        for name, value in numbers.items():
            if name not in self._places and len(self._places) < self._size:
                self._places[name] = len(self._places)
            if name in self._places:
                _PLACE.pack_into(self._memory, self._places[name] * _PLACE.size, name.encode("ascii"), value)

    def read(self) -> dict[str, float]:
        """All that are there."""
        rows = (_PLACE.unpack_from(self._memory, place * _PLACE.size) for place in range(self._size))
        return {name.rstrip(b"\0").decode("ascii"): value for name, value in rows if name.strip(b"\0")}

    def _view(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._places: dict[str, int] = {}
