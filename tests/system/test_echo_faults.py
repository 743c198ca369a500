"""Action i answers observation i, whoever shares the batch, and every transition is accounted for: under every fault.

The environments check each action they get, and the server's side checks each row of each unroll (`Audit`).
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from seedbed.common.echo import echo_length
from seedbed.env_client.environments.echo import ECHO_SPECS
from tests.system.echo import EchoServer
from tests.system.processes import Program, eventually

pytestmark = pytest.mark.system

ENVIRONMENT = "seedbed/EchoMixed-v0"
"""Actions and observations of every kind, and a mask."""

GRACE_S = 1.5
SIZES = (1, 3, 8, 8)
COUNTERS = ("leases_opened", "leases_expired", "leases_fenced")
DETECTION_S = 15.0
"""For a peer that says nothing at all: 10 s until it is pinged, 5 s until the answer is missed."""


class Fleet:
    """Real clients with echo environments; one ends with an error as soon as an action is not the echo."""

    def __init__(self, echo: EchoServer, stack: ExitStack) -> None:
        self._echo = echo
        self._stack = stack
        self.clients = [self.start(number) for number in range(len(SIZES))]

    def start(self, number: int) -> Program:
        """Starts client `number`, which may have been there before."""
        options = ("--num-envs", SIZES[number], "--first-index", sum(SIZES[:number]), "--client-id", f"client-{number}")
        program = Program("env", "--server", self._echo.address, "--env", f"{ENVIRONMENT},check=1,step_ms=1", *options)
        return self._stack.enter_context(program)

    def restart(self, number: int) -> None:
        """Kills a client the hard way and starts it again."""
        self.clients[number].process.kill()
        self.clients[number].process.wait()
        self.clients[number] = self.start(number)

    @contextmanager
    def frozen(self, number: int) -> Iterator[None]:
        """Stops a client in whatever it does, for a while."""
        process = psutil.Process(self.clients[number].process.pid)
        process.suspend()
        try:
            yield
        finally:
            process.resume()

    def indices(self, number: int) -> range:
        """Environments of a client."""
        return range(sum(SIZES[:number]), sum(SIZES[: number + 1]))

    def await_progress(self, *numbers: int, episodes: int = 3) -> None:
        """Waits until every environment of these clients has ended so many more episodes."""
        seen = len(self._echo.episodes)
        wanted = {index for number in numbers for index in self.indices(number)}

        def all_moved() -> bool:
            ended = Counter(index for index, _ in self._echo.episodes[seen:])
            return all(ended[index] >= episodes for index in wanted)

        eventually(all_moved, f"episodes of clients {numbers}")

    def assert_alive(self) -> None:
        """No client has met a wrong action."""
        for client in self.clients:
            assert client.process.poll() is None, client.stderr

    def stop(self) -> None:
        """Asks all to leave; leaving is no error."""
        for client in self.clients:
            client.send(signal.SIGTERM)
        for client in self.clients:
            assert client.wait() == 0, client.stderr


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    """One server that lives through all of this."""
    with EchoServer(num_slots=2 * sum(SIZES), grace_s=GRACE_S, spec=ECHO_SPECS[ENVIRONMENT], frontends=2) as server:
        yield server
    assert server.audit.problems == []
    server.check_account()


@pytest.fixture(scope="module")
def running(echo: EchoServer) -> Iterator[Fleet]:
    with ExitStack() as stack:
        fleet = Fleet(echo, stack)
        _assert_well(echo, fleet)
        yield fleet
        fleet.stop()


@pytest.fixture
def fleet(echo: EchoServer, running: Fleet) -> Iterator[Fleet]:
    """The clients, all of them well afterwards, and so before the next test."""
    yield running
    _assert_well(echo, running)


def _assert_well(echo: EchoServer, fleet: Fleet) -> None:
    fleet.await_progress(*range(len(SIZES)))
    fleet.assert_alive()
    assert echo.audit.problems == []
    leases = echo.server.service.leases
    eventually(lambda: leases.used_rows == sum(SIZES), "rows for the living alone", GRACE_S + 5)


def _counts(echo: EchoServer) -> dict[str, float]:
    return {name: echo.server.vitals.device[name] for name in (*COUNTERS, "leases_resumed")}


def _changes(echo: EchoServer, before: Mapping[str, float]) -> tuple[float, ...]:
    """Leases opened, expired and fenced since then."""
    now = _counts(echo)
    return tuple(now[name] - before[name] for name in COUNTERS)


def test_without_faults(echo: EchoServer, fleet: Fleet) -> None:
    """Two groups of a client share no slot, and every environment has one."""
    before = _counts(echo)
    fleet.await_progress(*range(len(SIZES)), episodes=10)
    assert len(echo.server.service.leases) == 1 + 2 * 3
    assert _changes(echo, before) == (0, 0, 0)


def test_killed_clients_start_again(echo: EchoServer, fleet: Fleet) -> None:
    before = _counts(echo)
    for number in (1, 2, 1):
        fleet.restart(number)
        fleet.await_progress(*range(len(SIZES)))
    opened, expired, fenced = _changes(echo, before)
    assert opened == expired + fenced == 6


def test_a_killed_client_that_stays_away_costs_its_rows_only(echo: EchoServer, fleet: Fleet) -> None:
    fleet.clients[3].process.kill()
    leases = echo.server.service.leases
    eventually(lambda: leases.used_rows == sum(SIZES[:3]), "the rows to be free", GRACE_S + 5)
    fleet.await_progress(0, 1, 2)
    fleet.restart(3)


def test_a_slow_client_holds_nobody_up(echo: EchoServer, fleet: Fleet) -> None:
    """Half a second a step: batches close without it. If they waited for it, all would step as slowly."""
    index = next(index for index in range(1000, 9999) if all(echo_length(index, episode) <= 2 for episode in range(3)))
    seen = len(echo.episodes)

    def steps() -> Counter[int]:
        return sum((Counter({index: end.steps}) for index, end in echo.episodes[seen:]), Counter())

    options = ("--env", f"{ENVIRONMENT},check=1,step_ms=500", "--first-index", index, "--client-id", "slow")
    with Program("env", "--server", echo.address, *options) as slow:
        slow.eventually(lambda: index in steps(), "its first episode")
        seen = len(echo.episodes)
        slow.eventually(lambda: steps()[index] >= 2, "its next steps")
        found = steps()
        slow.send(signal.SIGTERM)
        assert slow.wait() == 0, slow.stderr
    # The mean: steps are counted as episodes end, and a long one may not have.
    others = [found[other] for number in range(len(SIZES)) for other in fleet.indices(number)]
    assert sum(others) / len(others) > 3 * found[index], found


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_kills(echo: EchoServer, fleet: Fleet) -> None:
    """At random moments of an unroll; no row of one incarnation is ever in an unroll of another."""
    moments = random.Random(200)
    before = _counts(echo)
    for _ in range(200):
        number = moments.choice((1, 2))
        fleet.restart(number)
        fleet.await_progress(number, episodes=1)
        time.sleep(moments.uniform(0, 0.2))
    fleet.await_progress(*range(len(SIZES)))
    opened, expired, fenced = _changes(echo, before)
    assert opened == expired + fenced == 400, "two groups each"
    print(f"200 kills, {echo.audit.unrolls} unrolls checked, {echo.audit.cut} of them cut short")


def test_a_briefly_frozen_client_loses_nothing(echo: EchoServer, fleet: Fleet) -> None:
    before = _counts(echo)
    with fleet.frozen(2):
        fleet.await_progress(0, 1, 3)
    fleet.await_progress(2)
    assert _changes(echo, before) == (0, 0, 0)


def test_a_frozen_client_loses_its_lease_and_comes_back(echo: EchoServer, fleet: Fleet) -> None:
    """Longer than detection and grace; the others never wait for it."""
    leases = echo.server.service.leases
    deadline_s = time.monotonic() + DETECTION_S + GRACE_S + 5
    with fleet.frozen(2):
        while leases.used_rows > sum(SIZES) - SIZES[2]:
            fleet.await_progress(0, 1, 3)
            assert time.monotonic() < deadline_s
    fleet.await_progress(2)
    assert "lease lost" in fleet.clients[2].stderr


def test_a_killed_frontend_is_replaced_and_leases_go_on(echo: EchoServer, fleet: Fleet) -> None:
    """Its clients reconnect, perhaps to the other one, and find the same rows, agent state and open unrolls."""
    before = _counts(echo)
    for number in (0, 1, 0):
        echo.kill_frontend(number)
        fleet.await_progress(*range(len(SIZES)))
        eventually(lambda: len(echo.server.service.ready_frontends) == 2, "another frontend")
    assert _counts(echo)["leases_resumed"] > before["leases_resumed"]
    assert _changes(echo, before) == (0, 0, 0)


def test_all_at_once(echo: EchoServer, fleet: Fleet) -> None:
    with fleet.frozen(3):
        fleet.restart(1)
        echo.kill_frontend(1)
        fleet.restart(2)
        fleet.await_progress(0, 1, 2)
