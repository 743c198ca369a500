"""The client in C++ against the conformance tests, and in a training. It needs g++, make, gRPC and Protobuf for C++."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from seedbed.env_client.environments.building import describe
from tests.conformance.client import ClientConformance, StartClient
from tests.conformance.program_client import assert_learnt_from, started

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


class TestConformance(ClientConformance):
    """All of it, with three environments on one stream."""

    spec = describe("seedbed/Catch-v0", "")
    num_envs = NUM_ENVS
    num_groups = 1

    @pytest.fixture(scope="class")
    @classmethod
    def start_client(cls) -> StartClient:
        """Starts the program."""
        return lambda address: started([str(OUT / "client"), address, "0", str(NUM_ENVS), "conformance"])


def test_its_episodes_are_learnt_from(built: Path, tmp_path: Path) -> None:
    assert_learnt_from([built], tmp_path / "run")
