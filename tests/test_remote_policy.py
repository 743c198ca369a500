"""The remote policy against a small server written from the .proto alone; both live on one event loop.

The server answers with echo actions, so a misplaced or stale answer is an arithmetic fact.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from seedbed.common.codec import pack_actions, protocol_version, spec_from_message, spec_to_message, unpack_steps
from seedbed.common.echo import ECHO_ACTIONS, echo_action, echo_decode
from seedbed.common.errors import (
    ERROR_NAME_KEY,
    AuthError,
    CapacityError,
    FencedError,
    SequenceError,
    SpecError,
    UnavailableError,
    VersionError,
)
from seedbed.common.timestep import StepType
from seedbed.env_client import connection, lease
from seedbed.env_client.actor import LeaseLost, RunFinished, Stopped, run_actor
from seedbed.env_client.connection import Backoff, Endpoint, describe_server
from seedbed.env_client.environments import Environments, make_environments
from seedbed.env_client.remote_policy import RemotePolicy
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedServicer, add_SeedbedServicer_to_server

Step = Callable[["EchoServer", pb.Steps, Any], Any]


class EchoServer(SeedbedServicer):
    """Answers with echo actions, remembers leases as the protocol demands, and misbehaves on request.

    Attributes:
        tape: what happened, in order: ("hello", group, resumed), ("steps", group, seq), ("goodbye", group).
        faults: what to do with the n-th Steps (from 0) instead of answering it.
        refuse: what to do with the n-th Hello instead of welcoming it.
    """

    def __init__(self, port: int = 0) -> None:
        self.tape: list[tuple[Any, ...]] = []
        self.faults: dict[int, Step] = {}
        self.refuse: dict[int, Callable[[Any], Any]] = {}
        self.leases: dict[tuple[str, int, int], tuple[int, bytes]] = {}
        self.run_ids: set[int] = set()
        self.protocol = protocol_version()
        self.spec: pb.EnvironmentSpec | None = None
        self.metadata: list[Any] = []
        self._num_steps = 0
        self._num_hellos = 0
        self.port = port
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_SeedbedServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        assert self._server is not None
        await self._server.stop(None)

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        return pb.DescribeResponse(protocol=self.protocol, spec=self.spec)

    async def Act(self, request_iterator: AsyncIterator[pb.ClientMessage], context: Any) -> None:
        self.metadata.append(context.invocation_metadata())
        hello = (await context.read()).hello
        number, self._num_hellos = self._num_hellos, self._num_hellos + 1
        if number in self.refuse:
            await self.refuse[number](context)
            return
        key = (hello.client_id, hello.run_id, hello.group)
        self.run_ids.add(hello.run_id)
        resumed = key in self.leases
        last_seq, _ = self.leases.setdefault(key, (0, b""))
        self.tape.append(("hello", hello.group, resumed))
        welcome = pb.Welcome(protocol=self.protocol, resumed=resumed, last_seq=last_seq, grace_s=60)
        await context.write(pb.ServerMessage(welcome=welcome))
        async for message in request_iterator:
            if message.WhichOneof("body") == "goodbye":
                self.tape.append(("goodbye", hello.group))
                return
            await self._answer(message.steps, hello, key, context)

    async def _answer(self, steps: pb.Steps, hello: pb.Hello, key: tuple[str, int, int], context: Any) -> None:
        self.tape.append(("steps", hello.group, steps.seq))
        last_seq, cached = self.leases[key]
        assert steps.seq in (last_seq, last_seq + 1)
        if steps.seq == last_seq + 1:
            rows = unpack_steps(steps, spec_from_message(hello.spec), len(hello.environments))
            assert steps.seq > 1 or (rows.step_type == StepType.FIRST).all()
            index, _, _ = echo_decode(rows.observations[0])
            assert index.tolist() == [environment.index for environment in hello.environments]
            cached = pack_actions(steps.seq, [echo_action(rows.observations[0])], 0).SerializeToString()
            self.leases[key] = (steps.seq, cached)
        number, self._num_steps = self._num_steps, self._num_steps + 1
        if number in self.faults:
            await self.faults[number](self, steps, context)
            return
        await context.write(pb.ServerMessage.FromString(cached))


async def break_stream(server: EchoServer, steps: pb.Steps, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")


async def forget_and_break(server: EchoServer, steps: pb.Steps, context: Any) -> None:
    server.leases.clear()
    await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")


async def forget_seq_and_break(server: EchoServer, steps: pb.Steps, context: Any) -> None:
    """As if the message had been lost on its way."""
    server.leases = {key: (steps.seq - 1, b"") for key in server.leases}
    await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")


def drain(reason: pb.Drain.Reason, retry_after_ms: int = 0) -> Step:
    async def fault(server: EchoServer, steps: pb.Steps, context: Any) -> None:
        await context.write(pb.ServerMessage(drain=pb.Drain(reason=reason, retry_after_ms=retry_after_ms)))

    return fault


def refusal(code: grpc.StatusCode, text: str, name: str | None = None) -> Callable[[Any], Any]:
    async def refuse(context: Any) -> None:
        await context.abort(code, text, ((ERROR_NAME_KEY, name),) if name else ())

    return refuse


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.close()


@pytest.fixture
def server(loop: asyncio.AbstractEventLoop) -> EchoServer:
    server = EchoServer()
    loop.run_until_complete(server.start())
    return server


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "Backoff", lambda **options: Backoff(initial_s=0.01, max_s=0.05, **options))


class Checked(Environments):
    """Echo environments that insist on the echo and remember every reset."""

    def __init__(self, indices: Sequence[int]) -> None:
        built = make_environments("seedbed/Echo-v0,check=1", "", indices, run_seed=0)
        super().__init__(built._environments, indices)
        self.num_resets = 0

    def reset(self) -> Any:
        self.num_resets += 1
        return super().reset()


class Client:
    """Two rows in each of `groups` groups, stepped a fixed number of times."""

    def __init__(
        self, server: EchoServer, loop: asyncio.AbstractEventLoop, num_groups: int = 1, **options: Any
    ) -> None:
        self.groups = [Checked([10 * group + 3, 10 * group + 4]) for group in range(num_groups)]
        self.policy = RemotePolicy(
            Endpoint(target=f"127.0.0.1:{server.port}", **options),
            client_id="client-0",
            spec=self.groups[0].spec,
            groups=[group.indices for group in self.groups],
            loop=loop,
        )
        self._loop = loop
        self._server = server

    def run(self, num_steps: int) -> None:
        rounds = iter(range(num_steps + 1))
        run_actor(self.policy, self.groups, stop=lambda: next(rounds) == num_steps)

    def close(self) -> None:
        self._loop.run_until_complete(self.policy._leave("done"))
        self._loop.run_until_complete(self._server.stop())


def seqs(server: EchoServer, group: int = 0) -> list[int]:
    return [entry[2] for entry in server.tape if entry[:2] == ("steps", group)]


def test_two_groups_get_their_own_echoes(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    client = Client(server, loop, num_groups=2)
    client.run(50)
    client.close()
    assert [entry for entry in server.tape if entry[0] == "hello"] == [("hello", 0, False), ("hello", 1, False)]
    assert seqs(server, 0) == list(range(1, 52))
    assert seqs(server, 1) == list(range(1, 52))
    assert sorted(entry for entry in server.tape if entry[0] == "goodbye") == [("goodbye", 0), ("goodbye", 1)]


def test_send_does_not_wait_and_copies(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    client = Client(server, loop)
    rows = client.groups[0].reset()
    expected = echo_action(rows.observations[0])
    client.policy.send(0, rows)
    assert server.tape == []
    np.asarray(rows.observations[0])[...] = 0  # the arrays may be reused
    np.testing.assert_array_equal(client.policy.receive(0)[0], expected)
    client.close()


def test_broken_stream_resumes_with_the_cached_answer(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    server.faults[5] = break_stream
    client = Client(server, loop)
    client.run(10)
    client.close()
    assert seqs(server) == [1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11]
    assert [entry for entry in server.tape if entry[0] == "hello"] == [("hello", 0, False), ("hello", 0, True)]
    assert client.groups[0].num_resets == 1
    assert len(server.run_ids) == 1


def test_lost_message_is_sent_again_under_its_seq(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    server.faults[5] = forget_seq_and_break
    client = Client(server, loop)
    client.run(10)
    client.close()
    assert seqs(server) == [1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11]
    assert client.groups[0].num_resets == 1


def test_lost_lease_resets_and_restarts_seq(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    server.faults[5] = forget_and_break
    client = Client(server, loop)
    client.run(10)
    client.close()
    assert seqs(server) == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5]
    assert client.groups[0].num_resets == 2


def test_nothing_is_lost_before_the_first_answer(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    server.faults[0] = forget_and_break
    client = Client(server, loop)
    client.run(3)
    client.close()
    assert seqs(server) == [1, 1, 2, 3, 4]
    assert client.groups[0].num_resets == 1


def test_restarted_server_is_found_again(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    client = Client(server, loop)
    client.policy.send(0, client.groups[0].reset())
    actions = client.policy.receive(0)
    loop.run_until_complete(server.stop())
    client.policy.send(0, client.groups[0].step(actions))
    successor = EchoServer(server.port)
    loop.call_later(0.3, lambda: loop.create_task(successor.start()))
    with pytest.raises(LeaseLost):
        client.policy.receive(0)
    client.policy.send(0, client.groups[0].reset())
    client.policy.receive(0)
    assert successor.tape == [("hello", 0, False), ("steps", 0, 1)]
    assert successor.run_ids == server.run_ids
    client._server = successor
    client.close()


def test_waits_for_a_server_that_is_not_there_yet_without_spinning(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    placeholder = EchoServer()
    loop.run_until_complete(placeholder.start())
    loop.run_until_complete(placeholder.stop())
    client = Client(placeholder, loop)
    loop.call_later(1.0, lambda: loop.create_task(placeholder.start()))
    cpu_s = time.process_time()
    client.run(2)
    cpu_s = time.process_time() - cpu_s
    client.close()
    assert seqs(placeholder) == [1, 2, 3]
    assert cpu_s < 0.5
    attempts = [record for record in caplog.records if "next attempt in" in record.message]
    assert 5 < len(attempts) < 200  # one line for each, at about 40 a second


def test_finished_run_ends_the_actor(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    server.faults[3] = drain(pb.Drain.REASON_FINISHED)
    client = Client(server, loop)
    client.run(1_000)
    client.close()
    assert seqs(server) == [1, 2, 3, 4]


def test_drain_is_read_although_the_stream_ended_meanwhile(loop: asyncio.AbstractEventLoop) -> None:
    """While environments step, the server says it is finished and goes: the next write fails, the word must arrive."""

    class Finishing(EchoServer):
        async def _answer(self, *arguments: Any) -> None:
            context = arguments[-1]
            await super()._answer(*arguments)
            await drain(pb.Drain.REASON_FINISHED)(self, arguments[0], context)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    server = Finishing()
    loop.run_until_complete(server.start())
    client = Client(server, loop)
    client.policy.send(0, client.groups[0].reset())
    actions = client.policy.receive(0)
    loop.run_until_complete(asyncio.sleep(0.1))
    client.policy.send(0, client.groups[0].step(actions))
    with pytest.raises(RunFinished):
        client.policy.receive(0)
    client.close()


def test_restarting_server_is_given_its_time(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    server.faults[3] = drain(pb.Drain.REASON_RESTARTING, retry_after_ms=300)
    client = Client(server, loop)
    began_s = time.monotonic()
    client.run(5)
    assert 0.3 <= time.monotonic() - began_s < 2
    client.close()
    assert seqs(server) == [1, 2, 3, 4, 4, 5, 6]


@pytest.mark.parametrize(
    ("code", "name", "expected"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, "SpecError", SpecError),
        (grpc.StatusCode.FAILED_PRECONDITION, "SequenceError", SequenceError),
        (grpc.StatusCode.UNAUTHENTICATED, None, AuthError),
        (grpc.StatusCode.ABORTED, None, FencedError),
    ],
)
def test_refusals_that_no_retry_will_change_are_raised(
    server: EchoServer, loop: asyncio.AbstractEventLoop, code: grpc.StatusCode, name: str | None, expected: type
) -> None:
    server.refuse[0] = refusal(code, "because", name)
    client = Client(server, loop)
    with pytest.raises(expected, match="because"):
        client.run(1)
    client.close()


def test_full_server_is_asked_again(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    server.refuse[0] = server.refuse[1] = refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "no row", CapacityError.__name__)
    client = Client(server, loop)
    client.run(2)
    client.close()
    assert seqs(server) == [1, 2, 3]


def test_other_protocol_is_refused(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    server.protocol = pb.ProtocolVersion(major=99)
    client = Client(server, loop)
    with pytest.raises(VersionError, match="99"):
        client.run(1)
    client.close()


def test_resume_at_an_impossible_seq_is_refused(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    async def jump(server: EchoServer, steps: pb.Steps, context: Any) -> None:
        server.leases = {key: (77, b"") for key in server.leases}
        await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")

    server.faults[2] = jump
    client = Client(server, loop)
    with pytest.raises(SequenceError, match="resume at 2 or 3, got 77"):
        client.run(5)
    client.close()


def test_silent_server_is_left(
    server: EchoServer, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def say_nothing(context: Any) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(lease, "REPLY_TIMEOUT_S", 0.2)
    server.refuse[0] = say_nothing
    client = Client(server, loop)
    client.run(1)
    client.close()
    assert seqs(server) == [1, 2]


def test_gives_up_when_told_to(loop: asyncio.AbstractEventLoop) -> None:
    nobody = EchoServer()
    loop.run_until_complete(nobody.start())
    loop.run_until_complete(nobody.stop())
    client = Client(nobody, loop, give_up_after_s=0.3)
    with pytest.raises(UnavailableError, match="gave up after"):
        client.run(1)
    loop.run_until_complete(client.policy._leave("done"))


def test_interrupt_ends_the_wait_and_says_goodbye(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    async def never(server: EchoServer, steps: pb.Steps, context: Any) -> None:
        return

    server.faults[2] = never
    client = Client(server, loop)
    client.policy.send(0, client.groups[0].reset())
    for _ in range(2):
        client.policy.send(0, client.groups[0].step(client.policy.receive(0)))
    loop.call_later(0.2, client.policy.interrupt)
    with pytest.raises(Stopped):
        client.policy.receive(0)
    client.close()
    assert server.tape[-1] == ("goodbye", 0)


def test_close_is_quick_without_a_server(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    client = Client(server, loop)
    client.policy.send(0, client.groups[0].reset())
    client.policy.receive(0)
    loop.run_until_complete(server.stop())
    client.policy.send(0, client.groups[0].reset())
    began_s = time.monotonic()
    client.policy.close("gone")
    assert time.monotonic() - began_s < 1.5


def test_metadata_goes_with_every_stream(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    client = Client(server, loop, metadata=(("authorization", "Bearer x"),))
    client.run(1)
    client.close()
    assert ("authorization", "Bearer x") in tuple(server.metadata[0])


def test_connection_is_logged_once_all_groups_are_in(
    server: EchoServer, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = Client(server, loop, num_groups=2)
    client.run(3)
    client.close()
    lines = [record.message for record in caplog.records if record.message.startswith("connected")]
    assert lines == [f"connected to 127.0.0.1:{server.port}: 4 environments in 2 groups"]


def test_describe_server(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    spec = Checked([0]).spec
    assert spec.num_actions == ECHO_ACTIONS
    server.spec = spec_to_message(spec)
    assert loop.run_until_complete(describe_server(Endpoint(target=f"127.0.0.1:{server.port}"))) == spec
    loop.run_until_complete(server.stop())


def test_backoff_is_full_jitter_below_a_doubling_limit() -> None:
    highest = [0.0] * 8
    for seed in range(400):
        backoff = Backoff(_random=random.Random(seed))
        for attempt in range(8):
            wait_s = backoff.next_wait_s(UnavailableError("away"), now_s=0.0)
            assert 0 <= wait_s <= min(0.25 * 2**attempt, 10)
            highest[attempt] = max(highest[attempt], wait_s)
    np.testing.assert_allclose(highest, [0.25, 0.5, 1, 2, 4, 8, 10, 10], rtol=0.05)


def test_backoff_starts_over_after_an_answer() -> None:
    backoff = Backoff(give_up_after_s=10)
    for now_s in (0.0, 5.0, 9.9):
        backoff.next_wait_s(UnavailableError("away"), now_s)
    backoff.reset()
    assert backoff.next_wait_s(UnavailableError("away"), 100.0) <= 0.25
    with pytest.raises(UnavailableError, match="gave up after 10 s: away"):
        backoff.next_wait_s(UnavailableError("away"), 110.0)


def test_backoff_raises_what_is_not_worth_a_retry() -> None:
    with pytest.raises(SpecError, match="other"):
        Backoff().next_wait_s(SpecError("other"), 0.0)


def test_default_patience_matches_the_documented_one() -> None:
    assert (Backoff().initial_s, Backoff().max_s, connection.REPLY_TIMEOUT_S) == (0.25, 10.0, 10.0)


def test_client_imports_neither_torch_nor_server_nor_gymnasium() -> None:
    code = (
        "import sys, seedbed.env_client.remote_policy, seedbed.env_client.environments as e;"
        "e.describe('seedbed/Echo-v0', '');"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'gymnasium', 'cv2') or 'seedbed.server' in m])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}, timeout=60
    )
    assert found.stdout.strip() == "[]"
