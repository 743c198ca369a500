"""Programs under test: started with the interpreter of the tests, never left behind, their stderr shown on failure."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil

from seedbed.common.report import ReportPipe
from tests.parent_pipe import READ_END

START_S = 180.0
"""For a program to start or to end: importing torch takes a second, and a minute on a very busy machine."""

FAST = ("--num-envs", "8", "--num-clients", "1", "--batch-size", "4", "--log-interval-s", "0.3", "--device", "cpu")
"""Options of a training that is small, and soon has something to say."""

_T = TypeVar("_T")
_QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def eventually(condition: Callable[[], _T], what: str, within_s: float = START_S) -> _T:
    """Waits until a condition holds and returns its value."""
    deadline_s = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, f"expected {what} within {within_s:g} s"
        time.sleep(0.02)
    return value


class Program:
    """One `seedbed` command; use it as a context, which ends it and all its children the hard way.

    Attributes:
        process: the process.
    """

    def __init__(
        self,
        *arguments: str | float | Path,
        environment: Mapping[str, str] | None = None,
        prelude: str = "",
        prefix: Sequence[str] = (),
    ) -> None:
        """Starts it.

        Args:
            *arguments: of the command line.
            environment: variables beside those of the tests.
            prelude: Python that the process runs first: where faults are planted that nobody can cause from outside.
            prefix: a command that becomes the program, such as `nsenter`.
        """
        self._arguments = list(map(str, arguments))
        if self._arguments[:1] == ["env"]:
            self._arguments.append("--exit-with-parent")
        self._reports = ReportPipe()
        self._stdout = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by __exit__
        self._stderr = tempfile.NamedTemporaryFile("w+", suffix=".stderr")  # noqa: SIM115
        self.process = subprocess.Popen(
            [
                *prefix,
                sys.executable,
                "-c",
                f"{prelude}\nimport sys; from seedbed.common.cli import main; sys.exit(main())",
                *self._arguments,
            ],
            stdin=READ_END,
            stdout=self._stdout,
            stderr=self._stderr,
            env={**os.environ, **_QUIET, **self._reports.environment, **(environment or {})},
            pass_fds=(self._reports.fd,),
            start_new_session=True,
        )
        self._reports.started()
        self._address: str | None = None
        self._family: dict[int, psutil.Process] = {}

    @property
    def stderr(self) -> str:
        """All that was written so far."""
        return Path(self._stderr.name).read_text(errors="replace")

    @property
    def stdout(self) -> str:
        """All that was written so far."""
        self._stdout.seek(0)
        return self._stdout.read()

    @property
    def address(self) -> str:
        """HOST:PORT of a server, once it serves."""
        if self._address is None:
            facts = self._reports.read(START_S)
            assert facts is not None, f"ended with {self.process.wait()} before it served: {self.stderr[-2000:]}"
            self._address = str(facts["serving"])
        return self._address

    def eventually(self, condition: Callable[[], _T], what: str, within_s: float = START_S) -> _T:
        """Waits for a condition, as long as the program runs."""

        def holds() -> _T:
            value = condition()
            assert value or self.process.poll() is None, f"ended with {self.process.returncode} before {what}"
            return value

        return eventually(holds, what, within_s)

    def children(self) -> list[psutil.Process]:
        """All descendants that live now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).children(recursive=True)
            self._family |= {child.pid: child for child in found}
        return [child for child in self._family.values() if is_alive(child)]

    def clients(self) -> list[psutil.Process]:
        """Local environment clients that live now, oldest first."""
        found = [child for child in self.children() if "seedbed.env_client" in _command(child)]
        return sorted(found, key=lambda child: child.create_time())

    def frontends(self) -> list[psutil.Process]:
        """gRPC processes that live now."""
        return [child for child in self.children() if "spawn_main" in _command(child)]

    def assert_alone(self) -> None:
        """Nothing that the program started is left, now that it has ended."""
        eventually(lambda: not self.children(), "all its processes to end", 15.0)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the program alone."""
        self.process.send_signal(number)

    def wait(self, within_s: float = START_S) -> int:
        """The exit code."""
        return self.process.wait(within_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        family = self.children()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        print(f"$ seedbed {' '.join(self._arguments)}\n{self.stdout}{self.stderr}")  # pytest shows it on failure
        self._stdout.close()
        self._stderr.close()
        self._reports.close()


def run(
    *arguments: str | float | Path,
    environment: Mapping[str, str] | None = None,
    within_s: float = START_S,
    prelude: str = "",
    prefix: Sequence[str] = (),
) -> Finished:
    """Runs a command to its end; see `Program`."""
    with Program(*arguments, environment=environment, prelude=prelude, prefix=prefix) as program:
        code = program.wait(within_s)
        return Finished(code, program.stdout, program.stderr)


class Finished:
    """A command that has ended: exit code and what it wrote."""

    def __init__(self, code: int, stdout: str, stderr: str) -> None:
        self.code, self.stdout, self.stderr = code, stdout, stderr

    def assert_well(self) -> None:
        """It did what it should."""
        assert self.code == 0, self.stderr
        assert "Traceback" not in self.stderr, self.stderr

    def assert_error(self, code: int, *words: str) -> None:
        """It ended with that exit code and one line for a person."""
        assert self.code == code, self.stderr
        assert "Traceback" not in self.stderr, self.stderr
        lines = [line for line in self.stderr.splitlines() if line.startswith("seedbed: error: ")]
        assert len(lines) == 1, self.stderr
        assert lines[0] == self.stderr.splitlines()[-1], self.stderr
        missing = [word for word in words if word not in lines[0]]
        assert not missing, f"expected {missing} in {lines[0]!r}"


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and was not waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The complete lines of metrics.jsonl, none if there is no file yet."""
    file = run_dir / "metrics.jsonl"
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
