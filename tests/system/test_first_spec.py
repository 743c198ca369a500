"""`seedbed server --spec first`: the first client says what the environment is, and comes back to it."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest

from tests.system.processes import FAST, Program

pytestmark = pytest.mark.system

ENVIRONMENT = "seedbed/Synthetic-v0"
"""Shows an image: the client has looked at one when it brings its spec."""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(port: int, tmp_path: Path) -> Program:
    return Program(*("server", "--spec", "first", "--port", port, "--run-dir", tmp_path / "run", *FAST))


def test_the_first_client_brings_the_environment(port: int, server: Program, tmp_path: Path) -> None:
    """A client without --env waits; one with --env is sent away once, comes back, and both are served."""
    address = f"127.0.0.1:{port}"
    with server:
        server.eventually(lambda: "waiting on" in server.stderr, "the server to wait")
        with Program("env", "--server", address, "--num-envs", 2) as follower:
            follower.eventually(lambda: "has no environment yet" in follower.stderr, "the follower to ask")
            assert not (tmp_path / "run").exists()
            with Program("env", "--server", address, "--num-envs", 6, "--env", ENVIRONMENT) as bringer:
                server.eventually(lambda: "connected to" in bringer.stderr, "the bringer to come back")
                server.eventually(lambda: "connected to" in follower.stderr, "the follower to be let in")
                assert "the server restarts" in bringer.stderr
                assert f"the server serves {ENVIRONMENT}" in follower.stderr
                begun = tmp_path / "run" / "config.json"
                server.eventually(begun.exists, "the first step: before it there is no directory")
                server.send(signal.SIGTERM)
                assert server.wait() == 0
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        assert config["spec"]["environment"] == config["config"]["environment"]["env"] == ENVIRONMENT
        assert config["config"]["network"]["background"] == config["spec"]["observations"][0]["median"] > 100
        server.assert_alone()


@pytest.mark.slow
def test_it_can_be_told_to_stop_while_it_waits(server: Program, tmp_path: Path) -> None:
    with server:
        server.eventually(lambda: "waiting on" in server.stderr, "the server to wait")
        server.send(signal.SIGTERM)
        assert server.wait() == 0
        server.assert_alone()
        assert not (tmp_path / "run").exists()
