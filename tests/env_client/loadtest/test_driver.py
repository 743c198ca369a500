"""Driver processes, started for real, against a small server that checks what they send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from seedbed.common.credentials import ClientCredentials
from seedbed.common.options import to_json
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.env_client.environments.echo import ECHO_SPECS
from seedbed.env_client.loadtest.driver import Assignment
from seedbed.env_client.loadtest.fleet import Fleet
from seedbed.env_client.loadtest.pace import ClosedLoop, FixedRate
from seedbed.env_client.loadtest.tally import Tally, total
from tests.echo_server import EchoServer

SPEC = EnvironmentSpec(
    environment="seedbed/Echo-v0",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(3,), low=(0,)),),
    actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(17,), kind="discrete"),),
)


def assignments(server: EchoServer, num_clients: int, num_drivers: int = 1, **other: Any) -> list[Assignment]:
    values: dict[str, Any] = {
        "server": f"127.0.0.1:{server.port}",
        "credentials": to_json(ClientCredentials()),
        "spec": SPEC.to_json(),
        "name": "load",
        "num_clients": num_clients,
        "envs_per_client": 2,
        "first_index": 10,
        "episode_steps": 5,
        "step_s": 0.001,
        "jitter_s": 0.0,
        "period_s": None,
    }
    return [
        Assignment(numbers=tuple(range(driver, num_clients, num_drivers)), **(values | other))
        for driver in range(num_drivers)
    ]


@asynccontextmanager
async def echo_server() -> AsyncIterator[EchoServer]:
    server = EchoServer()
    server.check = False  # rows are noise
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def until(fleet: Fleet, condition: Callable[[Tally], object]) -> Tally:
    """The counters of all drivers, as soon as a condition holds."""
    async with asyncio.timeout(60):
        while True:
            tally = total([sample.tally for sample in await fleet.sample()])
            if condition(tally):
                return tally
            await asyncio.sleep(0.02)


def play(scene: Callable[[EchoServer, Fleet], Coroutine[Any, Any, None]], num_processes: int = 1) -> None:
    async def run() -> None:
        async with echo_server() as server, Fleet(num_processes) as fleet:
            await scene(server, fleet)

    asyncio.run(run())


def test_clients_are_dealt_out_come_and_leave() -> None:
    """Every one has a stream, environments and a connection of its own; all say goodbye; loads follow one another."""

    async def scene(server: EchoServer, fleet: Fleet) -> None:
        await fleet.start(assignments(server, 3, num_drivers=2))
        tally = await until(fleet, lambda tally: tally.answered_clients == 3 and tally.messages > 30)
        assert not tally.errors
        assert tally.latency.sum() == tally.messages
        assert tally.agent_steps < 2 * tally.messages, "LAST rows are no agent steps"
        assert tally.agent_steps > 1.5 * tally.messages
        assert 0 < tally.pack_s < tally.exchange_s <= tally.latency_s
        assert tally.stepping_s > 0.001 * tally.messages
        await fleet.stop()
        assert sorted(client for client, _, _ in server.granted) == ["load-0", "load-1", "load-2"]
        assert sorted(map(tuple, server.granted.values())) == [(10, 11), (12, 13), (14, 15)]
        assert len(server.peers) == 3, "two clients share a driver, and no connection"
        assert sum(event[0] == "goodbye" for event in server.tape) == 3
        await fleet.start(assignments(server, 1, name="next", period_s=1000.0))
        tally = await until(fleet, lambda tally: tally.answered_clients == 1)
        assert tally.messages == 1, "a new load is counted from 0"

    play(scene, num_processes=2)


def test_arrays_of_every_kind_are_sent_and_answered() -> None:
    async def scene(server: EchoServer, fleet: Fleet) -> None:
        await fleet.start(assignments(server, 1, spec=ECHO_SPECS["seedbed/EchoMixed-v0"].to_json()))
        tally = await until(fleet, lambda tally: tally.messages > 20)
        assert not tally.errors

    play(scene)


def test_a_rate_is_never_exceeded() -> None:
    async def scene(server: EchoServer, fleet: Fleet) -> None:
        start_s = asyncio.get_running_loop().time()
        await fleet.start(assignments(server, 2, period_s=0.05))
        tally = await until(fleet, lambda tally: tally.messages >= 12)
        elapsed_s = asyncio.get_running_loop().time() - start_s
        assert tally.messages <= 2 * (elapsed_s / 0.05 + 1)

    play(scene)


def test_what_goes_wrong_is_counted() -> None:
    """A refusal for good ends a client, a broken stream does not."""

    async def refuse(context: Any) -> None:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not you")

    async def cut(_server: EchoServer, _steps: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    async def scene(server: EchoServer, fleet: Fleet) -> None:
        server.refuse[0] = refuse
        server.faults[5] = cut
        await fleet.start(assignments(server, 2))
        tally = await until(fleet, lambda tally: tally.messages > 20)
        assert (tally.answered_clients, tally.failed_clients) == (1, 1)
        assert tally.errors["InvalidMessageError"] == 1
        assert tally.errors["disconnected"] >= 1
        assert "not you" in tally.examples["InvalidMessageError"]

    play(scene)


def test_a_driver_that_died_ends_the_test() -> None:
    async def scene(server: EchoServer, fleet: Fleet) -> None:
        await fleet.start(assignments(server, 1))
        fleet._drivers[0].kill()
        with pytest.raises(RuntimeError, match="has died"):
            await until(fleet, lambda _: False)

    play(scene)


@pytest.mark.parametrize(("period_s", "kind"), [(None, ClosedLoop), (0.5, FixedRate)])
def test_an_assignment_makes_the_pace(period_s: float | None, kind: type) -> None:
    server = EchoServer(port=1)
    (assignment,) = assignments(server, 4, period_s=period_s)
    assert isinstance(assignment.make_pace(1, np.random.default_rng(0)), kind)


def test_clients_with_a_rate_are_spread_over_its_period() -> None:
    (assignment,) = assignments(EchoServer(port=1), 4, period_s=0.5)
    paces = [assignment.make_pace(number, np.random.default_rng(0)) for number in range(4)]
    assert [pace._offset_s for pace in paces if isinstance(pace, FixedRate)] == [0.5, 0.625, 0.75, 0.875]
