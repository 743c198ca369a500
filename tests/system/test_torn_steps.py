"""Frontends die in the midst of copying a Steps into the slots: nothing is lost, counted twice or refused."""

from __future__ import annotations

import signal
from collections import defaultdict

import pytest

from seedbed.common.echo import echo_length
from seedbed.env_client.environments.echo import ECHO_SPECS
from tests.system.deadly_slots import DEATHS, DeadlySlots
from tests.system.echo import EchoServer
from tests.system.processes import Program, eventually

pytestmark = pytest.mark.system

NUM_ENVS = 6


@pytest.mark.parametrize(
    "environment", [pytest.param("seedbed/Echo-v0", marks=pytest.mark.slow), "seedbed/EchoMixed-v0"]
)
def test_frontends_that_die_in_the_midst_of_a_steps(environment: str) -> None:
    spec = ECHO_SPECS[environment]
    with EchoServer(num_slots=NUM_ENVS, grace_s=30.0, spec=spec, frontends=1, slot_table=DeadlySlots) as echo:
        slots = echo.server.inference._slots
        assert isinstance(slots, DeadlySlots)
        options = ("--env", f"{environment},check=1", "--num-envs", NUM_ENVS, "--groups", 1)
        with Program("env", "--server", echo.address, *options) as client:
            client.eventually(lambda: slots.deaths == DEATHS, "all deaths", within_s=15.0 * DEATHS)
            seen = len(echo.episodes)
            client.eventually(lambda: len(echo.episodes) > seen + 10 * NUM_ENVS, "episodes after them")
            client.send(signal.SIGTERM)
            assert client.wait() == 0, client.stderr
        eventually(lambda: echo.server.service.leases.used_rows == 0, "an end")
    assert echo.audit.problems == []
    echo.check_account()
    assert echo.server.service.vitals["leases_opened"] == 1, "every reconnect was a resume"
    lengths = defaultdict(list)
    for index, end in echo.episodes:
        lengths[index].append(end.steps)
    for index, found in lengths.items():
        assert found == [echo_length(index, episode) for episode in range(len(found))], "each end once, in order"
