"""The real client, `seedbed env` in a process of its own, against the conformance tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conformance.client import ClientConformance, RunningClient, StartClient
from tests.system.echo import ECHO_SPEC
from tests.system.processes import Program

pytestmark = pytest.mark.system


class _Client:
    """A `RunningClient`."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def stop(self) -> None:
        """SIGTERM."""
        self._program.send(signal.SIGTERM)

    def wait(self, within_s: float) -> int:
        """The exit code."""
        return self._program.wait(within_s)


@pytest.fixture(scope="module")
def start_client() -> StartClient:
    """Starts `seedbed env`."""

    @contextmanager
    def start(address: str) -> Iterator[RunningClient]:
        with Program(
            "env", "--server", address, "--env", "seedbed/Echo-v0", "--num-envs", 5, "--first-index", 0
        ) as program:
            yield _Client(program)

    return start


class TestClient(ClientConformance):
    """Five environments in two groups."""

    spec = ECHO_SPEC
    num_envs = 5
    num_groups = 2
