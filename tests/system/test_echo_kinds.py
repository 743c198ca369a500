"""Action i answers observation i, for every kind of array, through real clients, frontends, inference and unrolls."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from seedbed.env_client.environments.echo import ECHO_SPECS
from tests.system.echo import EchoServer
from tests.system.processes import Program, eventually

pytestmark = pytest.mark.system

EPISODES = 8
"""Of each environment."""

OF_EVERY_KIND = "seedbed/EchoMixed-v0"
"""Arrays of all kinds that the others show and take one by one."""


@pytest.mark.parametrize(
    "environment",
    [pytest.param(name, marks=() if name == OF_EVERY_KIND else pytest.mark.slow) for name in ECHO_SPECS],
)
def test_every_row_of_every_array_is_aligned(environment: str) -> None:
    """Two clients, one of which has its environments elsewhere, and a frontend that is replaced meanwhile."""
    with EchoServer(num_slots=16, grace_s=10.0, spec=ECHO_SPECS[environment], frontends=2) as echo:
        options = ("--server", echo.address, "--env", f"{environment},check=1")
        with (
            Program("env", *options, "--num-envs", 5, "--first-index", 0) as one,
            Program("env", *options, "--num-envs", 2, "--first-index", 5, "--isolate") as other,
        ):

            def all_have_ended(times: int) -> bool:
                ended = Counter(index for index, _ in echo.episodes)
                return all(ended[index] >= times for index in range(7))

            one.eventually(lambda: all_have_ended(EPISODES), "episodes")
            echo.kill_frontend(0)
            one.eventually(lambda: all_have_ended(2 * EPISODES), "episodes after a frontend has died")
            for client in (one, other):
                client.send(signal.SIGTERM)
                assert client.wait() == 0, client.stderr
        eventually(lambda: echo.server.service.leases.used_rows == 0, "an end")
    assert echo.audit.problems == []
    assert echo.audit.unrolls > 30
    echo.check_account()
