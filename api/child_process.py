"""A child process that runs a command of the server: its start, its log, what it writes meanwhile, its end in order."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seedbed.common.errors import BrokenError
from seedbed.common.report import ReportPipe, report_pipe

LOG_FILE = "train.log"
"""In the run: all that its processes write for people."""

_POLL_S = 0.2
_TAIL_CHARACTERS = 2000
_STOP_S = 60.0


def run_child(command: Sequence[str], log: ChildLog, watch: Callable[[bool], None]) -> None:
    """Runs a command of the server to its end.

    Args:
        command: its words.
        log: what it writes.
        watch: called every now and then, and once at the end, with whether it has begun to serve.

    Raises:
        SeedbedError: what the child says.
        BaseException: what `watch` raises, when the child has ended in order.
    """
    with report_pipe() as pipe:
        child = pipe.start([sys.executable, "-P", "-m", "seedbed.child", str(os.getpid()), *command], log.file)
        try:
            _follow(child, pipe, watch)
        except BaseException:
            _stop(child)
            raise
        if child.returncode != 0:
            verb = command[0]
            raise BrokenError(
                f"seedbed {verb} ended with exit code {child.returncode}; its log ends with\n{log.tail()}"
            )


def _follow(child: subprocess.Popen[bytes], pipe: ReportPipe, watch: Callable[[bool], None]) -> None:
    serving, alive = False, True
    while alive:
        try:
            facts = pipe.read(_POLL_S)
            alive = facts is not None
            serving = serving or "serving" in (facts or ())
        except TimeoutError:
            pass
        watch(serving)
    child.wait()
    watch(serving)


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Asks the child to finish, and waits until it has saved; a second Ctrl-C ends it at once."""
    try:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        child.wait(_STOP_S)
    except BaseException:
        child.kill()
        child.wait()
        raise


class ChildLog:
    """The output of a child: a file in the run's directory, and beside that as long as there is none.

    A start that fails leaves no directory behind, and this file neither.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._place = directory / LOG_FILE
        self._draft: Path | None = None
        self._made_parent = not directory.parent.exists()
        if not directory.is_dir():
            directory.parent.mkdir(parents=True, exist_ok=True)
            self._draft = directory.absolute().parent / f".{directory.name}-{secrets.token_hex(4)}.log"
        self.file = (self._draft or self._place).open("ab")

    def settle(self) -> None:
        """Moves the file into the directory, if that is there by now."""
        if self._draft is not None and self._directory.is_dir():
            self._draft.replace(self._place)
            self._draft = None

    def tail(self) -> str:
        """The end of what was written."""
        return (self._draft or self._place).read_bytes().decode(errors="replace")[-_TAIL_CHARACTERS:]

    def __enter__(self) -> ChildLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.settle()
        if self._draft is not None:
            self._draft.unlink()
            if self._made_parent:
                with contextlib.suppress(OSError):
                    self._directory.parent.rmdir()


class NewLines:
    """The lines that a start adds to `metrics.jsonl`.

    A run that goes on first rewrites the file without the lines beyond its checkpoint; those that stay are known by
    their text.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = set(file.read_bytes().splitlines()) if file.exists() else set()
        self._position = 0

    def read(self) -> list[dict[str, Any]]:
        """Those that are complete and were not read before; to be called when the run serves."""
        if not self._file.exists():
            return []
        with self._file.open("rb") as stream:
            stream.seek(self._position)
            complete = stream.read().rpartition(b"\n")[0]
        if not complete:
            return []
        self._position += len(complete) + 1
        return [json.loads(line) for line in complete.splitlines() if line not in self._known]
