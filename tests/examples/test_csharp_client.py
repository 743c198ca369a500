"""The client in C# against the conformance tests, and in a training. It needs `dotnet` and NuGet's packages."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seedbed.env_client.environments.rows import describe
from tests.conformance.client import ClientConformance, RunningClient, StartClient
from tests.system.processes import FAST, Program, read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "csharp_client"
COMMAND = ["dotnet", str(OUT / "client.dll")]
NUM_ENVS = 3


@pytest.fixture(scope="module", autouse=True)
def built() -> list[str]:
    """The program's command; it is compiled, which takes a minute."""
    if shutil.which("dotnet") is None:
        pytest.skip("dotnet is not installed")
    command = ["dotnet", "build", str(ROOT / "examples" / "csharp_client"), "--output", str(OUT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850, check=False)
    if done.returncode and "NU1301" in done.stdout + done.stderr:
        pytest.skip("NuGet's packages are out of reach")
    assert done.returncode == 0, done.stdout + done.stderr
    return COMMAND


class _Client:
    """A `RunningClient`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def stop(self) -> None:
        """SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, within_s: float) -> int:
        """The exit code."""
        return self._process.wait(within_s)


class TestConformance(ClientConformance):
    """All of it, with three environments on one stream."""

    spec = describe("seedbed/Catch-v0", "")
    num_envs = NUM_ENVS
    num_groups = 1

    @pytest.fixture(scope="class")
    @classmethod
    def start_client(cls) -> StartClient:
        """Starts the program."""

        @contextmanager
        def start(address: str) -> Iterator[RunningClient]:
            command = [*COMMAND, address, "0", str(NUM_ENVS), "conformance"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                try:
                    yield _Client(process)
                finally:
                    process.kill()

        return start


def test_its_episodes_are_learnt_from(built: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Program("server", "--preset", "catch", *FAST, "--num-envs", 4, "--run-dir", run) as program:
        command = [*built, program.address, "20", "2"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["episodes"] >= 20
        program.eventually(lambda: _episodes(run) == said["episodes"], "its episodes to count")


def _episodes(run: Path) -> float:
    lines = read_metrics(run)
    return float(lines[-1]["episodes"] or 0) if lines else 0.0
