"""Memory that a process shares with the processes it spawns.

It is anonymous: it has no name to collide with or to leave behind, and it goes with the last process that holds it.
Only processes spawned by the creator can map it.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from abc import ABC, abstractmethod
from multiprocessing import reduction
from typing import Any, ClassVar, Self


class SharedFile:
    """Zeroed memory, open in this process for as long as somebody here has this object.

    Args:
        size_bytes: of it.
    """

    def __init__(self, size_bytes: int) -> None:
        self._hold(_anonymous(), read_only=False)
        os.ftruncate(self._descriptor, size_bytes)

    def read_only(self) -> Self:
        """The same memory for somebody who may only read: here, and in a process that it is handed to."""
        reader = object.__new__(type(self))
        reader._hold(os.dup(self._descriptor), read_only=True)
        return reader

    def map(self) -> mmap.mmap:
        """Maps all of it; what is read-only cannot be written through what is returned."""
        access = mmap.ACCESS_READ if self._read_only else mmap.ACCESS_WRITE
        return mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size, access=access)

    def __getstate__(self) -> dict[str, Any]:
        return {"descriptor": reduction.DupFd(self._descriptor), "read_only": self._read_only}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._hold(state["descriptor"].detach(), read_only=state["read_only"])

    def _hold(self, descriptor: int, *, read_only: bool) -> None:
        self._descriptor = descriptor
        self._read_only = read_only
        weakref.finalize(self, os.close, descriptor).atexit = False


class SharedTable(ABC):
    """Numbers that lie in a `SharedFile`: mapped here, and anew in every process that a table is handed to.

    Attributes:
        kept: names of what goes along with the file, set before it is mapped; tables among it are handed on as tables.
    """

    kept: ClassVar[tuple[str, ...]] = ()

    def read_only(self) -> Self:
        """The same memory for somebody who may only read: here, and in a process that it is handed to."""
        reader = object.__new__(type(self))
        for name in self.kept:
            value = getattr(self, name)
            setattr(reader, name, value.read_only() if isinstance(value, SharedTable) else value)
        reader._hold(self._file.read_only())
        return reader

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*self.kept, "_file")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in self.kept:
            setattr(self, name, state[name])
        self._hold(state["_file"])

    def _hold(self, file: SharedFile) -> None:
        self._file = file
        self._view(file.map())

    @abstractmethod
    def _view(self, memory: mmap.mmap) -> None:
        """Lays the table's arrays over all of its memory."""


def _anonymous() -> int:
    """Not on /dev/shm where avoidable, which containers keep small."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("seedbed")
    with tempfile.TemporaryFile() as temporary:
        return os.dup(temporary.fileno())
