"""Reports of a child process to the one that started it: JSON lines, on a descriptor of their own.

Standard output belongs to environments, which print on it; standard error is for people. A parent opens a `ReportPipe`,
passes its descriptor on, and reads what the child has to say. A child that nobody asks reports into nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from seedbed.common.errors import SeedbedError, named_error

if TYPE_CHECKING:
    import subprocess

_VARIABLE = "SEEDBED_REPORT_FD"
_fd: int | None = None


def claim() -> None:
    """Takes over the descriptor that this process was given, if it was; children of its own do not get it."""
    global _fd
    if (text := os.environ.pop(_VARIABLE, None)) is not None:
        _fd = int(text)
        os.set_inheritable(_fd, False)


def report(facts: dict[str, Any]) -> None:
    """Tells the parent something; a parent that is gone does not mind."""
    if _fd is not None:
        with contextlib.suppress(OSError):
            os.write(_fd, json.dumps(facts).encode() + b"\n")


def mention(facts: dict[str, Any]) -> None:
    """The same about something that comes again and again: left out where the parent does not read."""
    if _fd is not None and _is_ready(_fd, select.POLLOUT, 0.0):  # the pipe takes a line without waiting
        report(facts)


def passed_on() -> tuple[dict[str, str], tuple[int, ...]]:
    """Variables and descriptors with which a child reports to this process's parent, in its place."""
    return ({}, ()) if _fd is None else ({_VARIABLE: str(_fd)}, (_fd,))


def report_error(error: SeedbedError) -> None:
    """Tells the parent why this process ends."""
    report({"error": type(error).__name__, "details": str(error)})


class ReportPipe:
    """The parent's side, for one child.

    Attributes:
        fd: what `subprocess.Popen(pass_fds=...)` must be given.
        environment: what the child's environment variables must hold.
    """

    def __init__(self) -> None:
        self._reader, self.fd = os.pipe()
        self._pending = b""
        self.environment = {_VARIABLE: str(self.fd)}

    def start(self, command: Sequence[str], output: IO[Any]) -> subprocess.Popen[bytes]:
        """Starts the child, in a session of its own: Ctrl-C reaches this process alone, which ends the child in order.

        Args:
            command: program and arguments.
            output: gets what it prints.
        """
        import subprocess  # most processes that import this module start none

        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(self.fd,),
            env={**os.environ, **self.environment},
            start_new_session=True,
        )
        self.started()
        return child

    def started(self) -> None:
        """The child has its end. Without this the pipe would never end."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read(self, timeout_s: float) -> dict[str, Any] | None:
        """The child's next report; None if it has ended without another.

        Raises:
            TimeoutError: neither happened in time.
            SeedbedError: the child's error.
        """
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            if not _is_ready(self._reader, select.POLLIN, deadline_s - time.monotonic()):
                raise TimeoutError
            if not (data := os.read(self._reader, 1 << 16)):
                return None
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        facts: dict[str, Any] = json.loads(line)
        if "error" in facts:
            raise named_error(facts["error"], facts["details"])
        return facts

    def close(self) -> None:
        """Closes both ends."""
        self.started()
        os.close(self._reader)


@contextmanager
def report_pipe() -> Iterator[ReportPipe]:
    """A pipe that is closed at the end of the block."""
    pipe = ReportPipe()
    try:
        yield pipe
    finally:
        pipe.close()


def _is_ready(descriptor: int, event: int, timeout_s: float) -> bool:
    """Waits for an event, or for the other end to close. Descriptors of any number: `select.select` takes 1,024."""
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(1000 * max(0.0, timeout_s)))
