"""Processes that are measured: started with this interpreter, one torch thread each, ended with their block."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from seedbed.common.errors import SeedbedError
from seedbed.common.report import ReportPipe

TIMEOUT_S = 120.0
"""For a process to start, to say something, or to end."""

SEEDBED = (sys.executable, "-c", "import sys; from seedbed.common.cli import main; sys.exit(main())")

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Program:
    """One command; use it as a context.

    Attributes:
        process: it.
        pid: its process id.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._reports = ReportPipe()
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115  # closed by __exit__
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **_ENVIRONMENT, **self._reports.environment},
            pass_fds=(self._reports.fd,),
        )
        self._reports.started()
        self.pid = self.process.pid

    @property
    def log(self) -> str:
        """What it has written to stderr so far."""
        return Path(self._log.name).read_text(errors="replace")

    def address(self) -> str:
        """HOST:PORT of a server, once it serves.

        Raises:
            RuntimeError: it has ended, or is silent for too long.
        """
        try:
            facts = self._reports.read(TIMEOUT_S)
        except (SeedbedError, TimeoutError) as error:
            raise RuntimeError(f"expected a server that serves, got {error!r}:\n{self.log[-2000:]}") from error
        if facts is None:
            raise RuntimeError(f"expected a server that serves, it has ended:\n{self.log[-2000:]}")
        return str(facts["serving"])

    def check(self, before: str) -> None:
        """Raises RuntimeError if it has ended with an error."""
        if self.process.poll():
            raise RuntimeError(f"a program ended with {self.process.returncode} before {before}:\n{self.log[-2000:]}")

    def wait(self) -> None:
        """Until it has ended well."""
        self.process.wait(TIMEOUT_S)
        self.check("its work was done")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()  # does nothing to one that has ended
        try:
            self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._log.close()
        self._reports.close()


class StreamHolder(Program):
    """A process of `tests/bench/streams.py`.

    Attributes:
        rows: E, environments in each of its messages.
    """

    def __init__(self, address: str, *, streams: int, rows: int, number: int = 0) -> None:
        """Starts it; `number` keeps the names and environments of several apart."""
        self.rows = rows
        options = {"server": address, "streams": streams, "rows": rows}
        options |= {"name": f"bench-{number}", "first-index": number * streams * rows}
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        super().__init__((sys.executable, "-m", "tests.bench.streams", *arguments))

    def ready(self) -> None:
        """Waits until every stream has been answered once."""
        self._read()

    def begin(self) -> None:
        """Starts the streams, and the first window."""
        self._write_line()

    def mark(self) -> dict[str, float]:
        """Ends a window and begins the next; returns the figures of the one that ended."""
        self._write_line()
        return self._read()

    def _write_line(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(TIMEOUT_S)
            raise RuntimeError(f"a holder of streams ended:\n{self.log[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found


@contextlib.contextmanager
def all_of(programs: Sequence[Program]) -> Iterator[None]:
    """A context around several programs."""
    with contextlib.ExitStack() as stack:
        for program in programs:
            stack.enter_context(program)
        yield
