"""Thousands of mutated messages against a live port: no defect, no growth, and nobody else notices."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import psutil
import pytest

from tests.conformance.wire import RawClient, ServerUnderTest
from tests.system.echo import ECHO_SPEC, EchoServer
from tests.system.fuzz import Fuzzer
from tests.system.processes import Program, eventually

pytestmark = pytest.mark.system

SEED = 20_261_121
HEALTHY_WITHIN_S = 1.0
NUM_SLOTS, GRACE_S = 4096, 0.2
MAX_GROWTH_BYTES = 16 << 20
FRIENDS = range(77_000, 77_004)

REFUSALS = {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "ABORTED", "ALREADY_EXISTS"}
"""All that may come of a wrong message. UNKNOWN would be an exception that nobody foresaw, INTERNAL a defect."""

HARMLESS = {"OK", "CANCELLED", "LOST"}
"""A Goodbye by accident, and streams that the fuzzer left or whose end it missed."""


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    """One frontend, and a client of sound environments that checks every action."""
    with EchoServer(num_slots=NUM_SLOTS, grace_s=GRACE_S, frontends=1) as server:
        server.audit.sound = FRIENDS
        options = ("--env", "seedbed/Echo-v0,check=1,step_ms=5", "--client-id", "friend", "--groups", 1)
        where = ("--num-envs", len(FRIENDS), "--first-index", FRIENDS.start)
        with Program("env", "--server", server.address, *options, *where) as friend:
            yield server
            assert friend.process.poll() is None, friend.stderr
            assert "lost" not in friend.stderr
    assert server.audit.problems == []


def fuzz(echo: EchoServer, num_messages: int, seed: int) -> Fuzzer:
    """Fuzzes in ten parts, and looks after the server between them."""
    server = ServerUnderTest(address=echo.address, spec=ECHO_SPEC, num_slots=NUM_SLOTS, grace_s=GRACE_S)
    processes = [process for process in multiprocessing.active_children() if "frontend" in process.name]
    assert len(processes) == 1
    frontend = psutil.Process(processes[0].pid or 0)
    fuzzer = Fuzzer(server, seed)
    fuzzer.run(num_messages // 10)  # pools and arenas have their size
    before = frontend.memory_info().rss
    with RawClient(server, num_envs=1) as witness:
        for _ in range(9):
            fuzzer.run(num_messages // 10)
            witness.exchange(HEALTHY_WITHIN_S)
    fuzzer.close()
    print(f"{fuzzer.sent} messages, {fuzzer.answered} of them answered, {dict(fuzzer.statuses)}")
    print(f"{(frontend.memory_info().rss - before) / 2**20:.1f} MiB more")
    assert frontend.is_running(), "not one frontend was replaced"
    assert fuzzer.sent >= num_messages
    surprises = set(fuzzer.statuses) - REFUSALS - HARMLESS
    assert not surprises, {status: fuzzer.examples[status] for status in surprises}
    assert set(fuzzer.statuses) >= {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}, "the mutations are varied"
    assert fuzzer.statuses["LOST"] < num_messages // 100
    assert fuzzer.answered > num_messages // 50, "and some of them are no fault at all"
    assert frontend.memory_info().rss - before < MAX_GROWTH_BYTES
    leases = echo.server.service.leases
    eventually(lambda: leases.used_rows == len(FRIENDS), "an end of leases", GRACE_S + 5)
    leases.check_valid()
    return fuzzer


def test_a_thousand_mutated_messages(echo: EchoServer) -> None:
    fuzz(echo, 1000, SEED)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_ten_thousand_mutated_messages(echo: EchoServer, seed: int) -> None:
    fuzz(echo, 10_000, seed)
