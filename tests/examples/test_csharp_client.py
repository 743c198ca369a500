"""The client in C# against the conformance tests, and in a training. It needs `dotnet` and NuGet's packages."""

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


class TestConformance(ClientConformance):
    """All of it, with three environments on one stream."""

    spec = describe("seedbed/Catch-v0", "")
    num_envs = NUM_ENVS
    num_groups = 1

    @pytest.fixture(scope="class")
    @classmethod
    def start_client(cls) -> StartClient:
        """Starts the program."""
        return lambda address: started([*COMMAND, address, "0", str(NUM_ENVS), "conformance"])


def test_its_episodes_are_learnt_from(built: list[str], tmp_path: Path) -> None:
    assert_learnt_from(built, tmp_path / "run")
