"""Environments that raise, hang or crash, in real clients: what they cost, with and without `--isolate`."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from tests.system.echo import EchoServer
from tests.system.processes import Program, eventually

pytestmark = pytest.mark.system

FIRST_INDEX, NUM_ENVS, BAD = 10, 3, 11
HEALTHY = range(2)
BROKEN_CODE = 75
FAULT_AT, SELDOM = 100, 300
"""Steps of an environment before its fault; four faults end the client, so seldom where it must live until we look."""

STEP_TIMEOUT_S = 3
"""A busy machine may keep a sound environment off its core for a second; then it would count as one that hangs."""


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    """One server that lives through all of this, and a healthy client that checks every action."""
    with EchoServer(num_slots=64, grace_s=1.0, frontends=1) as server:
        server.audit.sound = set(range(100)) - {BAD}
        options = ("--env", "seedbed/Echo-v0,check=1,step_ms=1", "--num-envs", len(HEALTHY), "--client-id", "healthy")
        with Program("env", "--server", server.address, *options) as healthy:
            yield server
            healthy.send(signal.SIGTERM)
            assert healthy.wait() == 0, healthy.stderr
    assert server.audit.problems == []
    server.check_account()


def start(echo: EchoServer, fault: str, fault_at: int, *options: str) -> Program:
    """A client whose second environment has that fault."""
    environment = f"seedbed/Echo-v0,check=1,step_ms=1,fault={fault},fault_index={BAD},fault_at={fault_at}"
    where = ("--num-envs", NUM_ENVS, "--first-index", FIRST_INDEX, "--client-id", f"faulty-{fault}", "--groups", 1)
    timeouts = ("--step-timeout-s", STEP_TIMEOUT_S, "--reset-timeout-s", 8)
    return Program("env", "--server", echo.address, "--env", environment, *where, *timeouts, *options)


def await_episodes(echo: EchoServer, *indices: int, episodes: int = 2) -> None:
    """Waits until each of these environments has ended so many more."""
    seen = len(echo.episodes)

    def ended() -> bool:
        counts = Counter(index for index, _ in echo.episodes[seen:])
        return all(counts[index] >= episodes for index in indices)

    eventually(ended, f"episodes of {indices}")


SIBLINGS = [index for index in range(FIRST_INDEX, FIRST_INDEX + NUM_ENVS) if index != BAD]


def test_one_that_raises_is_built_again_three_times(echo: EchoServer) -> None:
    seen = len(echo.episodes)
    with start(echo, "raise", FAULT_AT) as client:
        assert client.wait() == BROKEN_CODE
        assert client.stderr.count("is built again") == 4, "each fault is told"
        assert client.stderr.count("Traceback") == 1, "and its trace once"
        last = client.stderr.splitlines()[-1]
        assert last.startswith(f"seedbed: error: environment {BAD} broke 4 times within 10 minutes")
        assert "on purpose" in last
    lengths = {index: [end.steps for at, end in echo.episodes[seen:] if at == index] for index in (*SIBLINGS, BAD)}
    one_life = lengths[BAD][: len(lengths[BAD]) // 4]
    assert lengths[BAD] == one_life * 4 != [], "four environments, each of which began with its first episode"
    for index in SIBLINGS:
        assert sum(lengths[index]) > 3 * FAULT_AT, "they went on all the time"
    await_episodes(echo, *HEALTHY)


def test_one_that_shows_nan_costs_its_client_nothing(echo: EchoServer) -> None:
    """The server would refuse such a message, and its client with it."""
    with start(echo, "nan", SELDOM) as client:
        client.eventually(lambda: "not finite" in client.stderr, "a fault")
        await_episodes(echo, *SIBLINGS, BAD)
        assert client.process.poll() is None


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("hang", BROKEN_CODE),
        pytest.param("hang-alone", 1, marks=pytest.mark.slow),
        ("crash", -signal.SIGSEGV),
    ],
)
def test_without_isolation_it_costs_its_client(echo: EchoServer, fault: str, code: int) -> None:
    """And ends it, with a trace of where it was: nothing hangs for ever."""
    with start(echo, fault, FAULT_AT) as client:
        assert client.wait() == code
        if code != -signal.SIGSEGV:
            assert "in _hang" in client.stderr
        if code == BROKEN_CODE:
            assert f"seedbed: error: environment {BAD}: a step took more than {STEP_TIMEOUT_S} s" in client.stderr
    await_episodes(echo, *HEALTHY)
    leases = echo.server.service.leases
    eventually(lambda: leases.used_rows == len(HEALTHY), "the rows to be free", 5.0)


@pytest.mark.parametrize("fault", [pytest.param("hang-alone", marks=pytest.mark.slow), "crash"])
def test_with_isolation_it_costs_only_itself(echo: EchoServer, fault: str) -> None:
    before = echo.server.service.vitals["leases_opened"]
    with start(echo, fault, SELDOM, "--isolate") as client:
        client.eventually(lambda: f"environment {BAD} broke" in client.stderr, "a fault")
        await_episodes(echo, *HEALTHY, *SIBLINGS, BAD)
        client.send(signal.SIGTERM)
        assert client.wait() == 0
        client.assert_alone()
    assert echo.server.service.vitals["leases_opened"] == before + 1, "its siblings kept their lease"


def test_a_client_that_was_stopped_for_a_while_did_not_hang(echo: EchoServer) -> None:
    with start(echo, "hang", 10**6) as client:
        await_episodes(echo, BAD)
        process = psutil.Process(client.process.pid)
        process.suspend()
        time.sleep(STEP_TIMEOUT_S + 1.5)  # longer than a step may take
        process.resume()
        await_episodes(echo, *SIBLINGS, BAD)
        assert client.process.poll() is None
