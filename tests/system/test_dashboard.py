"""A real training with its dashboard: what is shown is true, and what happens to it costs the training nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.system.echo import EchoServer
from tests.system.processes import FAST, Program

pytest.importorskip("starlette")
pytestmark = pytest.mark.system


def ask(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


def data(port: int, path: str) -> Any:
    status, body = ask(port, path)
    assert status == 200, body
    return json.loads(body)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("runs") / "watched"
    with Program("train", "--env", "CartPole-v1", "--run-dir", folder, *FAST) as found:
        assert found.address
        yield found


@pytest.fixture(scope="module")
def port(program: Program) -> int:
    found = program.eventually(
        lambda: re.search(r"dashboard +http://127\.0\.0\.1:(\d+)", program.stderr), "the dashboard's address"
    )
    assert found is not None
    return int(found[1])


def steps_of(port: int) -> int:
    return int(data(port, "/api/state")["totals"]["agent_steps"])


def process_of(program: Program) -> psutil.Process | None:
    """The dashboard's: of all spawned processes the one whose niceness is its own."""
    ours = psutil.Process(program.process.pid).nice()
    return next((child for child in program.frontends() if child.nice() > ours), None)


def test_it_costs_no_process_before_anybody_looks_and_then_tells_the_truth(program: Program, port: int) -> None:
    assert process_of(program) is None
    program.eventually(lambda: data(port, "/api/state")["gauges"]["environments"] == 8, "all environments")
    before = steps_of(port)
    program.eventually(lambda: steps_of(port) > before, "steps")
    state = data(port, "/api/state")
    assert (state["run"], state["environment"], state["phase"]) == ("watched", "CartPole-v1", "serving")
    assert state["verdict"]["stage"]
    assert sorted(state["tiles"]["environments"]) == list(range(8))
    slot = state["tiles"]["slots"][0]
    program.eventually(lambda: data(port, f"/api/watch?slot={slot}")["policy"], "a policy")
    watched = data(port, f"/api/watch?slot={slot}")
    assert sum(watched["policy"]) == pytest.approx(1.0, abs=1e-3)
    assert watched["environment"] == 0
    program.eventually(lambda: data(port, "/api/fleet"), "the fleet")
    (row,) = data(port, "/api/fleet")
    assert row["client"].startswith("local-0-")
    assert (row["environments"], row["host"]) == (8, "127.0.0.1")
    bars = data(port, "/api/bars")
    assert len(bars["values"]) == 8
    assert {len(numbers) for numbers in bars["values"]} == {4}


def test_a_dead_one_is_replaced_and_a_frozen_one_holds_nobody_up(program: Program, port: int) -> None:
    steps_of(port)
    first = process_of(program)
    assert first is not None
    first.send_signal(signal.SIGSTOP)
    agent_steps = program_steps(program)
    program.eventually(lambda: program_steps(program) > agent_steps + 500, "steps while the dashboard is frozen")
    first.kill()
    assert steps_of(port) > agent_steps
    second = process_of(program)
    assert second is not None
    assert second.pid != first.pid


def program_steps(program: Program) -> int:
    """By what the run writes down itself."""
    found = re.findall(r"steps ([\d,]+)", program.stderr)
    return int(found[-1].replace(",", "")) if found else 0


def test_nothing_is_written_two_seconds_after_the_last_look() -> None:
    with (
        EchoServer(num_slots=16, grace_s=2.0) as server,
        Program("env", "--server", server.address, "--env", "seedbed/Echo-v0", "--num-envs", "8") as clients,
    ):
        table, look = server.sight.table, server.sight.look

        def writes_within(seconds: float) -> bool:
            """Whether anything is written while environments step."""
            before, steps = table.contents(), server.num_steps
            time.sleep(seconds)
            clients.eventually(lambda: server.num_steps > steps + 20, "steps")
            return table.contents() != before

        clients.eventually(lambda: (table.lease > 0).sum() == 8, "all environments")
        assert not writes_within(0.3)  # nobody has looked yet
        look.take()
        assert writes_within(0.3)
        clients.eventually(table.read_fleet, "the fleet")
        last_s = time.monotonic()
        look.take()
        time.sleep(max(0.0, last_s + 2.0 - time.monotonic()))
        assert not writes_within(0.5)
