"""Which replica a client goes to, how long it stays, and when it goes to another: against small servers."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from seedbed.common import server_list
from seedbed.common.address import Address
from seedbed.common.codec import spec_to_message
from seedbed.common.errors import AuthError, SpecError, UnavailableError, UsageError
from seedbed.env_client import lease, replicas
from seedbed.env_client.actor import IndicesChanged, LeaseLost
from seedbed.env_client.connection import Backoff
from seedbed.env_client.environments.building import describe, make_environments
from seedbed.env_client.remote_policy import RemotePolicy
from seedbed.env_client.replicas import Replicas
from seedbed.env_client.servers import Servers, describe_servers
from seedbed.proto import seedbed_pb2 as pb
from tests.echo_server import EchoServer, break_stream, refusal

SPEC = describe("seedbed/Echo-v0", "")
FULL = refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room", "CapacityError")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "Backoff", lambda **options: Backoff(initial_s=0.01, max_s=0.05, **options))
    monkeypatch.setattr(replicas, "_START_JITTER_S", 0.0)


@asynccontextmanager
async def serving(*free_rows: int, grace_s: float = 60.0) -> AsyncIterator[list[EchoServer]]:
    """Servers, each with so many free rows."""
    servers = [EchoServer() for _ in free_rows]
    for server, free in zip(servers, free_rows, strict=True):
        server.free_rows, server.grace_s = free, grace_s
        await server.start()
    try:
        yield servers
    finally:
        for server in servers:
            await server.stop()


def target(servers: Sequence[EchoServer]) -> str:
    return ",".join(server.address for server in servers)


def steps(server: EchoServer) -> list[tuple[int, int]]:
    return [(group, seq) for kind, group, seq in server.tape if kind == "steps"]


class Client:
    """Two rows in each of `num_groups` groups, stepped by hand on the loop of the test; starts anew where it must."""

    def __init__(self, servers: str, num_groups: int = 1) -> None:
        self._num_groups = num_groups
        self._wishes = [[10 * group + 3, 10 * group + 4] for group in range(num_groups)]
        self._target = servers
        self.lost = 0
        self.policy: RemotePolicy
        self._begin()

    def _begin(self) -> None:
        self.policy = RemotePolicy(
            Servers(self._target),
            client_id="client-0",
            specs=(SPEC,),
            groups=self._wishes,
            assign_indices=True,
            loop=asyncio.get_running_loop(),
        )
        self._environments: list[Any] = [None] * self._num_groups
        self._actions: list[Any] = [None] * self._num_groups

    async def step(self, times: int = 1) -> None:
        """Every group, at once."""
        for _ in range(times):
            try:
                await asyncio.gather(*map(self._step, range(self._num_groups)))
            except IndicesChanged:
                self.lost += 1
                await self.leave()
                self._begin()
                await self.step()

    async def _step(self, group: int) -> None:
        connection = self.policy._leases[group]
        if self._environments[group] is None:
            indices = await connection.connect()
            self._environments[group] = make_environments("seedbed/Echo-v0,check=1", "", indices, run_seed=0)
        environments, actions = self._environments[group], self._actions[group]
        rows = environments.reset() if actions is None else environments.step(actions)
        try:
            self._actions[group] = await connection.exchange(rows)
        except LeaseLost:
            self.lost += 1
            self._actions[group] = await connection.exchange(environments.reset())

    async def leave(self) -> None:
        await self.policy._leave("done")


def play(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def test_the_one_with_more_free_rows_of_two() -> None:
    async def run() -> None:
        async with serving(3, 40) as (small, large):
            for _ in range(3):
                client = Client(target([small, large]))
                await client.step()
                await client.leave()
            assert (len(steps(small)), len(steps(large))) == (0, 3)

    play(run)


def test_two_of_many_are_asked_and_the_fullest_is_never_taken() -> None:
    """The emptiest is not always taken either: then all who come together would go there."""

    async def run() -> None:
        async with serving(5, 40, 30, 20) as servers:
            chosen: Counter[str] = Counter()
            for seed in range(60):
                found = Replicas(Servers(target(servers)), 2, choice=random.Random(seed))
                chosen[(await found.line(0)).endpoint.target] += 1
                await found.close()
            counts = [chosen[server.address] for server in servers]
            assert counts[0] == 0
            assert counts[1] > counts[2] > counts[3] > 0
            assert sum(server.num_statuses for server in servers) == 120

    play(run)


def test_a_single_server_is_asked_nothing() -> None:
    async def run() -> None:
        async with serving(3) as [server]:
            client = Client(server.address)
            await client.step(3)
            await client.leave()
            assert server.num_statuses == 0

    play(run)


def test_a_full_replica_is_left_at_once() -> None:
    """What it said of free rows was old."""

    async def run() -> None:
        async with serving(40, 3) as (full, other):
            full.refuse = dict.fromkeys(range(9), FULL)
            client = Client(target([full, other]))
            began_s = time.monotonic()
            await client.step(2)
            assert time.monotonic() - began_s < 5
            await client.leave()
            assert full._num_hellos == 1
            assert steps(other) == [(0, 1), (0, 2)]

    play(run)


def test_when_all_are_full_it_waits_and_asks_again() -> None:
    async def run() -> None:
        async with serving(40, 3) as servers:
            for server in servers:
                server.refuse = dict.fromkeys(range(3), FULL)
            client = Client(target(servers))
            await client.step(2)
            await client.leave()
            assert sorted(server._num_hellos for server in servers) == [3, 4]

    play(run)


def test_it_stays_where_its_lease_may_live() -> None:
    async def run() -> None:
        async with serving(40, 3) as (home, other):
            home.faults[2] = break_stream
            client = Client(target([home, other]), num_groups=2)
            await client.step()
            other.free_rows = 99
            await client.step(4)
            assert client.lost == 0
            await home.stop()
            asyncio.get_running_loop().call_later(0.5, lambda: asyncio.ensure_future(home.start()))
            await client.step(2)  # the tape goes on: this server forgets nothing
            await client.leave()
            assert client.lost == 0
            assert steps(other) == []

    play(run)


def test_after_the_grace_time_it_goes_elsewhere_with_all_its_groups() -> None:
    async def run() -> None:
        async with serving(40, 3, grace_s=0.5) as (home, other):
            client = Client(target([home, other]), num_groups=2)
            await client.step(2)
            await home.stop()
            lost_s = time.monotonic()
            await client.step(2)
            assert 0.5 <= time.monotonic() - lost_s < 8
            await client.step(2)
            await client.leave()
            assert client.lost == 2
            assert {group for group, _ in steps(other)} == {0, 1}
            assert len(steps(other)) == 8
            await home.start()

    play(run)


def test_a_dead_candidate_is_passed_over() -> None:
    async def run() -> None:
        async with serving(40, 3) as (dead, other):
            await dead.stop()
            client = Client(target([dead, other]))
            await client.step()
            await client.leave()
            assert steps(other) == [(0, 1)]
            await dead.start()

    play(run)


def test_half_a_client_goes_on_to_where_there_is_room_for_all_of_it() -> None:
    async def run() -> None:
        async with serving(40, 3) as (home, other):
            home.refuse = dict.fromkeys(range(1, 99), FULL)  # the second group, and whoever comes later
            client = Client(target([home, other]), num_groups=2)
            other.free_rows = 4
            await client.step(3)
            await client.leave()
            assert ("goodbye", 0, "done") in home.tape
            assert {group for group, _ in steps(other)} == {0, 1}

    play(run)


def test_what_is_refused_for_good_names_the_server() -> None:
    async def run() -> None:
        async with serving(40, 3) as servers:
            for server in servers:
                server.refuse[0] = refusal(grpc.StatusCode.FAILED_PRECONDITION, "another environment", "SpecError")
            with pytest.raises(SpecError, match=rf"{servers[0].address}: another environment"):
                await Client(target(servers)).step()

    play(run)


def test_addresses_of_a_name_are_looked_up_before_every_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """One replica is lost, another has come meanwhile."""
    hosts = ["127.0.0.1"]

    async def look_up(address: Address) -> list[str]:
        assert address.host == "servers"
        return list(hosts)

    monkeypatch.setattr(server_list, "look_up", look_up)

    async def run() -> None:
        async with serving(40, grace_s=0.2) as [home]:
            late = EchoServer(home.port, "127.0.0.2")
            await late.start()
            client = Client(f"dns:servers:{home.port}")
            await client.step()
            hosts[:] = ["127.0.0.1", "127.0.0.2"]
            await client.step()
            assert steps(late) == []
            await home.stop()
            await client.step()
            await client.leave()
            assert len(steps(late)) == 1
            await late.stop()
            await home.start()

    play(run)


def test_any_of_them_says_what_they_serve() -> None:
    async def run() -> None:
        async with serving(40, 40) as (away, there):
            await away.stop()
            there.specs = [spec_to_message(SPEC)]
            for _ in range(4):
                assert await describe_servers(Servers(target([away, there]))) == (SPEC,)
            await away.start()
        with pytest.raises(UnavailableError, match="gave up"):
            await describe_servers(Servers(target([away, there]), give_up_after_s=0.1))

    play(run)


def test_a_token_is_not_sent_to_them_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_TOKEN", "0123456789abcdef")
    Servers("127.0.0.1:1,[::1]:1")
    for text in ("127.0.0.1:1,far.example:1", "dns:far.example:1"):
        with pytest.raises(UsageError, match="expected TLS"):
            Servers(text)


def test_a_wrong_token_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: EchoServer, request: pb.StatusRequest, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "expected the token")

    monkeypatch.setattr(EchoServer, "Status", refuse)

    async def run() -> None:
        async with serving(1, 1) as servers:
            with pytest.raises(AuthError, match=r"127\.0\.0\.1:.*expected the token"):
                await Client(target(servers)).step()

    play(run)
