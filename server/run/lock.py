"""Lock of a run directory: one process works in it at a time, on this machine or on another that shares the disk.

The file RUN/lock is never deleted while its directory stays: two processes would lock two files. The lock itself is the
kernel's (flock), ends with the process that holds it, and is not inherited by what that process starts. What the file
holds, host and process id, is for messages.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from seedbed.common.errors import ConfigError, RunInUseError

logger = logging.getLogger(__name__)

LOCK_FILE = "lock"
PATIENCE_S = 30.0
_POLL_S = 0.1
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_NO_LOCKS_HERE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def locked(
    directory: Path, *, patience_s: float = PATIENCE_S, gives_up: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Holds the lock of a directory, which exists, for as long as the block lasts.

    Args:
        directory: of the run.
        patience_s: how long to wait for a process that holds it, such as a server that still drains.
        gives_up: asked while waiting.

    Raises:
        RunInUseError: another process holds it and stays, or `gives_up` said so.
        ConfigError: nothing can be written there.
    """
    descriptor = _acquire(directory / LOCK_FILE, patience_s, gives_up)
    try:
        yield
    finally:
        os.close(descriptor)


def _acquire(file: Path, patience_s: float, gives_up: Callable[[], bool]) -> int:
    deadline_s = time.monotonic() + patience_s
    told = False
    while True:
        descriptor = _open(file)
        try:
            if _try_lock(descriptor, file) and _is_still(descriptor, file):
                with contextlib.suppress(OSError):  # a disk that is full: the lock holds without a note of whose it is
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{socket.gethostname()} {os.getpid()}\n".encode(), 0)
                return descriptor
            holder = os.pread(descriptor, 300, 0).decode(errors="replace").split()
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        who = f"process {holder[1]} on {holder[0]}" if len(holder) == 2 and holder[1].isdigit() else "another process"
        if gives_up() or time.monotonic() >= deadline_s:
            raise RunInUseError(f"expected {file.parent} for this process alone, {who} works in it")
        if not told:
            logger.warning("%s works in %s; waiting up to %g s for it to leave", who, file.parent, patience_s)
            told = True
        time.sleep(_POLL_S)


def _open(file: Path) -> int:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except FileNotFoundError as error:
        raise RunInUseError(f"expected {file.parent} to stay, a start that failed has taken it away again") from error
    except OSError as error:
        raise ConfigError(f"expected a run directory to write into, got {file.parent} ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError(f"expected a file to lock, got something else: {file}")
    return descriptor


def _try_lock(descriptor: int, file: Path) -> bool:
    """Whether this process has the lock now, or there are no locks here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _NO_LOCKS_HERE:
            raise
        logger.warning(
            "%s cannot be locked here (%s): make sure that no other process uses this run", file, error.strerror
        )
    return True


def _is_still(descriptor: int, file: Path) -> bool:
    """Whether the file is the one that others open now: a start that failed may have taken its directory away."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False
