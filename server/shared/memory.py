"""Memory that a process shares with the processes it spawns.

It is anonymous: it has no name to collide with or to leave behind, and it goes with the last process that holds it.
Only processes spawned by the creator can map it.
"""

from __future__ import annotations

import mmap
import os
import tempfile


def anonymous_file(size_bytes: int) -> int:
    """A file descriptor of zeroed memory to map; not on /dev/shm where avoidable, which containers keep small."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("seedbed")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, size_bytes)
    return file


def map_file(file: int, *, read_only: bool = False) -> mmap.mmap:
    """Maps all of a file; one that is mapped read-only cannot be written through what is returned."""
    return mmap.mmap(file, os.fstat(file).st_size, access=mmap.ACCESS_READ if read_only else mmap.ACCESS_WRITE)
