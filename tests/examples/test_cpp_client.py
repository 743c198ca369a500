"""The client in C++ against the conformance tests, and in a training. It needs g++, make, gRPC and Protobuf for C++."""

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
OUT = ROOT / "build" / "cpp_client"
NUM_ENVS = 3


@pytest.fixture(scope="module", autouse=True)
def built() -> Path:
    """The program, compiled unless that was done before: a minute."""
    missing = [
        name for name in ("g++", "make", "pkg-config", "protoc", "grpc_cpp_plugin") if shutil.which(name) is None
    ]
    if missing or subprocess.run(["pkg-config", "--exists", "grpc++", "protobuf"], check=False).returncode:
        pytest.skip(f"gRPC and Protobuf for C++ are not installed ({', '.join(missing) or 'grpc++'})")
    OUT.mkdir(parents=True, exist_ok=True)
    command = ["make", "-C", str(ROOT / "examples" / "cpp_client"), f"OUT={OUT}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stderr
    return OUT / "client"


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
            command = [str(OUT / "client"), address, "0", str(NUM_ENVS), "conformance"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                try:
                    yield _Client(process)
                finally:
                    process.kill()

        return start


def test_its_episodes_are_learnt_from(built: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Program("server", "--preset", "catch", *FAST, "--num-envs", 4, "--run-dir", run) as program:
        done = subprocess.run(
            [built, program.address, "20", "2"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["episodes"] >= 20
        program.eventually(lambda: _episodes(run) == said["episodes"], "its episodes to count")


def _episodes(run: Path) -> float:
    lines = read_metrics(run)
    return float(lines[-1]["episodes"] or 0) if lines else 0.0
