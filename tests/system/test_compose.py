"""`docker compose up` for real: build, connect, train, save, go on. Needs an engine; minutes the first time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.processes import eventually

ROOT = Path(__file__).resolve().parents[2]
NUM_CLIENTS = 4

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]


class Project:
    """A compose project of its own, beside whatever else this engine runs."""

    def __init__(self) -> None:
        self._command = ["docker", "compose", "--project-name", f"seedbed-test-{os.getpid()}"]
        self._environment = {**os.environ, "SEEDBED_PRESET": "cartpole", "SEEDBED_PORT": "0"}
        self._environment["SEEDBED_SERVER_OPTIONS"] = "--log-interval-s 1 --target-return none"

    def __call__(self, *arguments: str) -> str:
        """Runs a command of compose to its end and returns what it printed."""
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def up(self) -> None:
        """Starts the server and all clients."""
        self("up", "--detach", "--scale", f"env={NUM_CLIENTS}")

    def metrics(self) -> dict[str, Any]:
        """The newest line of the run's log."""
        found: dict[str, Any] = json.loads(self("exec", "-T", "server", "tail", "-n1", "/runs/cartpole/metrics.jsonl"))
        return found

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine knows of them, those that have ended too."""
        names = self("ps", "--all", "--quiet", service).split()
        inspected = subprocess.run(["docker", "inspect", *names], capture_output=True, text=True, check=True).stdout
        found: list[dict[str, Any]] = json.loads(inspected)
        return found


@pytest.fixture
def project() -> Iterator[Project]:
    if shutil.which("docker") is None:
        pytest.skip("the docker command is not installed")
    if subprocess.run(["docker", "compose", "ls"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no engine answers, or it has no Compose")
    project = Project()
    yield project
    project("down", "--volumes", "--timeout", "20")


def test_a_fleet_of_containers_trains_and_the_next_one_goes_on(project: Project) -> None:
    project.up()
    eventually(lambda: project.metrics()["updates"] > 20, "updates", 120.0)
    clients = project.containers("env")
    assert len(clients) == NUM_CLIENTS
    assert [client["RestartCount"] for client in clients] == [0] * NUM_CLIENTS
    assert project("logs", "env").count("connected to server:7777") == NUM_CLIENTS
    (server,) = project.containers("server")
    assert server["State"]["Health"]["Status"] == "healthy"
    published = server["NetworkSettings"]["Ports"]["7777/tcp"]
    assert {binding["HostIp"] for binding in published} == {"127.0.0.1"}

    project("stop")
    (server,) = project.containers("server")
    assert server["State"]["ExitCode"] == 0
    assert "saved /runs/cartpole/checkpoints/" in project("logs", "server")
    project("down")

    project.up()
    eventually(lambda: "resuming /runs/cartpole at" in project("logs", "server"), "a run that goes on", 60.0)
    eventually(lambda: project("logs", "env").count("connected to server:7777") == NUM_CLIENTS, "all clients", 60.0)
