"""Clients that are programs: what the conformance tests ask of one that has been started, and episodes that count."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.system.processes import FAST, Program, read_metrics


class ProgramClient:
    """A `RunningClient` that is a process."""

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        self._process = process

    def stop(self) -> None:
        """SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, within_s: float) -> int:
        """The exit code."""
        return self._process.wait(within_s)


@contextmanager
def started(command: Sequence[str | Path]) -> Iterator[ProgramClient]:
    """Runs the command of a client, and ends it."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield ProgramClient(process)
        finally:
            process.kill()


def assert_learnt_from(command: Sequence[str | Path], run: Path) -> None:
    """Twenty episodes of a client that is told ADDRESS, episodes and environments count in a training."""
    with Program("server", "--preset", "catch", *FAST, "--num-envs", 4, "--run-dir", run) as program:
        whole = [*command, program.address, "20", "2"]
        done = subprocess.run(whole, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["episodes"] >= 20
        program.eventually(lambda: _episodes(run) == said["episodes"], "its episodes to count")


def _episodes(run: Path) -> float:
    lines = read_metrics(run)
    return float(lines[-1]["episodes"] or 0) if lines else 0.0
