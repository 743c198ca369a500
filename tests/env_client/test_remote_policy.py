"""The remote policy and its leases against a small server; both live on one event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from seedbed.common.credentials import ClientCredentials
from seedbed.common.echo import echo_action
from seedbed.common.errors import (
    AuthError,
    CapacityError,
    FencedError,
    InvalidMessageError,
    SeedbedError,
    SequenceError,
    SpecError,
    UnavailableError,
    VersionError,
)
from seedbed.env_client import lease
from seedbed.env_client.actor import IndicesChanged, LeaseLost, RunFinished, Stopped, run_actor
from seedbed.env_client.connection import Backoff
from seedbed.env_client.environments.building import describe, make_environments
from seedbed.env_client.environments.echo import ECHO_SPECS
from seedbed.env_client.environments.rows import Environments
from seedbed.env_client.remote_policy import RemotePolicy
from seedbed.env_client.servers import Servers
from seedbed.proto import seedbed_pb2 as pb
from tests.echo_server import (
    EchoServer,
    break_stream,
    drain,
    forget_and_break,
    forget_seq_and_break,
    refusal,
)


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

    def __init__(self, indices: Sequence[int], environment: str) -> None:
        built = make_environments(f"{environment},check=1", "", indices, run_seed=0)
        super().__init__(built._seats)
        self.num_resets = 0

    def reset(self) -> Any:
        self.num_resets += 1
        return super().reset()


class Client:
    """Two rows in each of `groups` groups, stepped a fixed number of times."""

    def __init__(
        self,
        server: EchoServer,
        loop: asyncio.AbstractEventLoop,
        num_groups: int = 1,
        assign_indices: bool = False,
        environment: str = "seedbed/Echo-v0",
        **options: Any,
    ) -> None:
        self._loop = loop
        self._server = server
        named = [[10 * group + 3, 10 * group + 4] for group in range(num_groups)]
        self.policy = RemotePolicy(
            Servers(f"127.0.0.1:{server.port}", **options),
            client_id="client-0",
            specs=(describe(environment, ""),),
            groups=named,
            assign_indices=assign_indices,
            loop=loop,
        )
        try:
            granted = self.policy.connect() if assign_indices else named
            self.groups = [Checked(indices, environment) for indices in granted]
        except SeedbedError:
            self.close()
            raise

    def run(self, num_steps: int) -> None:
        rounds = iter(range(num_steps + 1))
        run_actor(self.policy, self.groups, stop=lambda: next(rounds) == num_steps)

    def close(self) -> None:
        self._loop.run_until_complete(self.policy._leave("done"))
        self._loop.run_until_complete(self._server.stop())


def seqs(server: EchoServer, group: int = 0) -> list[int]:
    return [entry[2] for entry in server.tape if entry[:2] == ("steps", group)]


@pytest.mark.parametrize("environment", ECHO_SPECS)
def test_two_groups_get_their_own_echoes(server: EchoServer, loop: asyncio.AbstractEventLoop, environment: str) -> None:
    client = Client(server, loop, num_groups=2, environment=environment)
    client.run(50)
    client.close()
    assert sorted(entry for entry in server.tape if entry[0] == "hello") == [("hello", 0, False), ("hello", 1, False)]
    assert seqs(server, 0) == list(range(1, 52))
    assert seqs(server, 1) == list(range(1, 52))
    assert sorted(entry for entry in server.tape if entry[0] == "goodbye") == [
        ("goodbye", 0, "done"),
        ("goodbye", 1, "done"),
    ]


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


def test_a_new_lease_whose_welcome_was_lost(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    """The server resumes what the client never knew it had: at 0, which means that the old lease is gone."""

    async def open_anew_and_break(server: EchoServer, steps: pb.Steps, context: Any) -> None:
        server.leases = dict.fromkeys(server.leases, (0, b""))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "on purpose")

    server.faults[5] = open_anew_and_break
    client = Client(server, loop)
    client.run(10)
    client.close()
    assert seqs(server) == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5]
    assert client.groups[0].num_resets == 2
    assert [entry for entry in server.tape if entry[0] == "hello"] == [("hello", 0, False), ("hello", 0, True)]


def test_nothing_is_lost_before_the_first_answer(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    server.faults[0] = forget_and_break
    client = Client(server, loop)
    client.run(3)
    client.close()
    assert seqs(server) == [1, 1, 2, 3, 4]
    assert client.groups[0].num_resets == 1


def test_indices_that_the_server_chose_are_those_that_are_stepped(
    server: EchoServer, loop: asyncio.AbstractEventLoop
) -> None:
    """The echo server insists on them in every row."""
    server.offset = 100
    server.faults[5] = break_stream
    client = Client(server, loop, num_groups=2, assign_indices=True)
    client.run(10)
    client.close()
    assert [group.indices for group in client.groups] == [(103, 104), (113, 114)]


def test_a_client_that_comes_back_wishes_for_what_it_had(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    async def forget_and_grant_every_wish(server: EchoServer, steps: pb.Steps, context: Any) -> None:
        server.offset = 0
        await forget_and_break(server, steps, context)

    server.offset = 100
    server.faults[5] = forget_and_grant_every_wish
    client = Client(server, loop, assign_indices=True)
    client.run(10)
    client.close()
    assert server.granted == {next(iter(server.granted)): [103, 104]}


def test_other_indices_in_a_new_lease_end_the_actor(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    server.faults[5] = forget_and_break
    server.offset = 100
    client = Client(server, loop, assign_indices=True)
    with pytest.raises(IndicesChanged):
        client.run(10)
    client.close()
    assert client.groups[0].num_resets == 1


def test_a_server_that_does_not_tell_its_choice_is_refused(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    server.told = 0
    with pytest.raises(InvalidMessageError, match="expected 2 environment indices in Welcome, got 0"):
        Client(server, loop, assign_indices=True)


def test_interrupt_ends_the_wait_for_a_lease(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(server.stop())
    client = Client(server, loop)
    loop.call_later(0.2, client.policy.interrupt)
    with pytest.raises(Stopped):
        client.policy.connect()
    loop.run_until_complete(client.policy._leave("done"))


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
    assert 1 <= len(attempts) < 10  # a line for each thing that is wrong, although it tries about 40 times a second


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
    assert 0.3 <= time.monotonic() - began_s < 15
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
    assert server.tape[-1] == ("goodbye", 0, "done")


@pytest.mark.parametrize("num_turns", range(8))
def test_goodbye_arrives_however_far_the_last_write_got(
    server: EchoServer, loop: asyncio.AbstractEventLoop, num_turns: int
) -> None:
    async def turn() -> None:
        for _ in range(num_turns):
            await asyncio.sleep(0)

    server.check = False
    big = make_environments("seedbed/Synthetic-v0,shape=1500x1500", "", [0], run_seed=0)  # takes a while to write
    target = f"127.0.0.1:{server.port}"
    policy = RemotePolicy(Servers(target), client_id="big", specs=(big.spec,), groups=[[0]], loop=loop)
    policy.send(0, big.reset())
    policy.send(0, big.step(policy.receive(0)))
    loop.run_until_complete(turn())
    loop.run_until_complete(policy._leave("done"))
    loop.run_until_complete(server.stop())
    assert server.tape[-1] == ("goodbye", 0, "done")


def test_close_is_quick_without_a_server(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    client = Client(server, loop)
    client.policy.send(0, client.groups[0].reset())
    client.policy.receive(0)
    loop.run_until_complete(server.stop())
    client.policy.send(0, client.groups[0].reset())
    began_s = time.monotonic()
    client.policy.close("gone")
    assert time.monotonic() - began_s < 5


def test_each_client_process_draws_its_own_run_id(server: EchoServer, loop: asyncio.AbstractEventLoop) -> None:
    for _ in range(3):
        client = Client(server, loop)
        client.run(1)
        loop.run_until_complete(client.policy._leave("done"))
    loop.run_until_complete(server.stop())
    assert len(server.run_ids - {0}) == 3


def test_the_token_of_now_goes_with_every_stream(
    server: EchoServer, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("of-the-first-hour")

    async def replace_token(server: EchoServer, steps: pb.Steps, context: Any) -> None:
        file.write_text("of-the-second-hour\nof-the-first-hour\n")
        await break_stream(server, steps, context)

    server.faults[5] = replace_token
    client = Client(server, loop, credentials=ClientCredentials(token_file=file))
    client.run(10)
    client.close()
    shown = [dict(metadata)["authorization"] for metadata in server.metadata]
    assert shown == ["Bearer of-the-first-hour", "Bearer of-the-second-hour"]


def test_connection_is_logged_once_all_groups_are_in(
    server: EchoServer, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = Client(server, loop, num_groups=2)
    client.run(3)
    client.close()
    lines = [record.message for record in caplog.records if record.message.startswith("connected")]
    assert lines == [f"connected to 127.0.0.1:{server.port}: 4 environments in 2 groups"]


def test_client_imports_neither_torch_nor_server_nor_gymnasium() -> None:
    code = (
        "import sys, seedbed.env_client.remote_policy, seedbed.env_client.environments.building as e;"
        "e.describe('seedbed/Echo-v0', '');"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'gymnasium', 'cv2') or 'seedbed.server' in m])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}, timeout=60
    )
    assert found.stdout.strip() == "[]"
