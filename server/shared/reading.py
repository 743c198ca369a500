"""Files of a run directory that may be anybody's: looked at before they are read.

A pipe would be waited at for ever, a device read for ever, and a file that claims a terabyte filled into memory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_regular(file: Path, *, at_most: int) -> bytes:
    """The contents of a regular file.

    Args:
        file: its path; links are followed.
        at_most: bytes that it may have.

    Raises:
        OSError: there is none, it is something else, or it is larger.
    """
    _check(file, file.stat(), at_most)
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # whatever has taken its place, nobody waits at it
    with open(descriptor, "rb") as stream:
        _check(file, os.fstat(descriptor), at_most)
        return stream.read(at_most)


def open_regular(file: Path, flags: int) -> int:
    """A descriptor of a regular file, for the caller to close; made where there is none and the flags say so.

    Raises:
        OSError: it is something else, or cannot be opened.
    """
    descriptor = os.open(file, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)  # nobody waits at a pipe
    try:
        _check(file, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(file: Path, found: os.stat_result, at_most: int | None = None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"expected a file, got {_kind(found.st_mode)}: {file}")
    if at_most is not None and found.st_size > at_most:
        raise OSError(f"expected at most {at_most:,} bytes, got {found.st_size:,}: {file}")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
