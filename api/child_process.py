"""A child process that runs a command of the server: its start, its log, what it writes meanwhile, its end in order."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from seedbed.common.errors import BrokenError
from seedbed.common.report import ReportPipe, report_pipe
from seedbed.server.monitoring.line_file import readable_lines
from seedbed.server.run.directory import EPISODES_FILE, LOG_FILE, OLDER_EPISODES_FILE

Facts = Mapping[str, Any]
"""A report of the child: "serving" when it begins to, "checkpoint" when one is written."""

_POLL_S = 0.2
_TAIL_CHARACTERS = 2000
_STOP_S = 60.0


def run_child(command: Sequence[str], log: ChildLog, watch: Callable[[Sequence[Facts]], None]) -> None:
    """Runs a command of the server to its end.

    Args:
        command: its words.
        log: what it writes.
        watch: called every now and then, and once at the end, with what it has reported since.

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


def _follow(child: subprocess.Popen[bytes], pipe: ReportPipe, watch: Callable[[Sequence[Facts]], None]) -> None:
    alive = True
    while alive:
        try:
            facts = pipe.read(_POLL_S)
            alive = facts is not None
        except TimeoutError:
            facts = None
        watch([] if facts is None else [facts])
    child.wait()
    watch([])


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
        self.file = (self._draft or self._place).open("a+b")

    def settle(self) -> None:
        """Moves the file into the directory, if that is there by now."""
        if self._draft is not None and self._directory.is_dir():
            self._draft.replace(self._place)
            self._draft = None

    def tail(self) -> str:
        """The end of what was written."""
        size = os.fstat(self.file.fileno()).st_size  # by descriptor: a start that fails may have removed the name
        length = min(size, 4 * _TAIL_CHARACTERS)
        return os.pread(self.file.fileno(), length, size - length).decode(errors="replace")[-_TAIL_CHARACTERS:]

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


class NewEpisodes:
    """The lines that a start adds to `episodes.jsonl`, across its making room for a new file."""

    def __init__(self, run_dir: Path, size: int) -> None:
        """Opens nothing yet.

        Args:
            run_dir: of the run.
            size: bytes that were in the file when the run began to serve.
        """
        self._path, self._older = run_dir / EPISODES_FILE, run_dir / OLDER_EPISODES_FILE
        self._position = size
        self._file: BinaryIO | None = None

    def read(self) -> list[dict[str, Any]]:
        """Those that are complete and were not read before."""
        found: list[dict[str, Any]] = []
        if self._file is None:
            self._file = self._path.open("rb")
            if os.fstat(self._file.fileno()).st_size < self._position:  # it made room before it was ever looked at
                self._file.close()
                self._file = self._older.open("rb")
        found += self._rest(self._file)
        if os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino:
            found += self._rest(self._file)
            self._file.close()
            self._file, self._position = self._path.open("rb"), 0
            found += self._rest(self._file)
        return found

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def _rest(self, file: BinaryIO) -> list[dict[str, Any]]:
        file.seek(self._position)
        complete = file.read().rpartition(b"\n")[0]
        if not complete:
            return []
        self._position += len(complete) + 1
        return [entry for _, entry in readable_lines(self._path, complete.decode() + "\n")]
