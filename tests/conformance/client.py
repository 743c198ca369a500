"""What every environment client must do. Inherit `ClientConformance`, give `start_client` in class scope.

What depends on the arrays alone is in `ClientConversation`, which starts one client.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar, Protocol

import grpc
import numpy as np
import pytest

from seedbed.common.codec import PROTOCOL_MAJOR, spec_from_message
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.proto import seedbed_pb2 as pb
from tests.conformance.scripted_server import Heard, Loss, Script, ScriptedServer, serving

START_S = 30.0
"""For a client process to start on a busy machine."""

RETRY_AFTER_MS = 700


class RunningClient(Protocol):
    """A client that has been started."""

    def stop(self) -> None:
        """Asks it to leave, politely."""

    def wait(self, within_s: float) -> int:
        """Its exit code; 0 if it left because it was asked to."""


StartClient = Callable[[str], AbstractContextManager[RunningClient]]
"""Address of the server -> a client; leaving the context ends it."""


class ClientConversation:
    """All that is said when nothing goes wrong, heard once.

    A subclass says what its clients step, and gives a fixture `start_client` of type `StartClient`.

    Attributes:
        spec: of the environments.
        num_envs: of one client, at least 2.
        num_groups: streams of one client.
    """

    spec: ClassVar[EnvironmentSpec]
    num_envs: ClassVar[int]
    num_groups: ClassVar[int]

    @pytest.fixture(scope="class")
    @classmethod
    def conversation(cls, start_client: StartClient) -> ScriptedServer:
        """Forty Steps of every group, and a polite end."""
        with serving(cls.spec, Script()) as (server, address), start_client(address) as client:
            cls._hear(server, 40)
            client.stop()
            assert client.wait(START_S) == 0
        return server

    def test_hello_comes_first_and_once(self, conversation: ScriptedServer) -> None:
        for stream in range(self.num_groups):
            kinds = [heard.kind for heard in conversation.heard if heard.stream == stream]
            assert kinds[0] == "hello"
            assert kinds.count("hello") == 1

    def test_hello_says_who_asks_for_what(self, conversation: ScriptedServer) -> None:
        hellos = [heard.body for heard in conversation.heard if heard.kind == "hello"]
        assert sorted(hello.group for hello in hellos) == list(range(self.num_groups))
        assert len({(hello.client_id, hello.run_id) for hello in hellos}) == 1
        assert hellos[0].client_id
        assert hellos[0].run_id != 0
        for hello in hellos:
            assert hello.protocol.major == PROTOCOL_MAJOR
            assert spec_from_message(hello.spec) == self.spec
            assert {environment.task for environment in hello.environments} == {self.spec.environment}
        indices = Counter(environment.index for hello in hellos for environment in hello.environments)
        assert indices.total() == self.num_envs
        assert set(indices.values()) == {1}

    def test_nothing_is_said_out_of_turn(self, conversation: ScriptedServer) -> None:
        """Not before Welcome, and nothing but Goodbye while a Steps is in flight."""
        assert [heard for heard in conversation.heard if heard.awaited and heard.kind != "goodbye"] == []

    def test_seq_counts_from_one(self, conversation: ScriptedServer) -> None:
        for group in range(self.num_groups):
            seqs = [heard.seq for heard in conversation.of_group(group)]
            assert seqs == list(range(1, len(seqs) + 1))

    def test_arrays_are_as_long_as_the_spec_says(self, conversation: ScriptedServer) -> None:
        for group in range(self.num_groups):
            rows = _num_rows(conversation, group)
            for steps in _bodies(conversation, group):
                assert [len(steps.step_type), len(steps.reward), len(steps.discount)] == [rows, 4 * rows, 4 * rows]
                assert [len(part) for part in steps.observations] == [
                    rows * array.row_bytes for array in self.spec.observations
                ]

    def test_episodes_begin_and_end_as_they_should(self, conversation: ScriptedServer) -> None:
        for group in range(self.num_groups):
            bodies = _bodies(conversation, group)
            step_type = np.stack([np.frombuffer(steps.step_type, "u1") for steps in bodies])
            reward = np.stack([np.frombuffer(steps.reward, "<f4") for steps in bodies])
            discount = np.stack([np.frombuffer(steps.discount, "<f4") for steps in bodies])
            first, last = step_type == StepType.FIRST, step_type == StepType.LAST
            assert set(np.unique(step_type)) <= {StepType.FIRST, StepType.MID, StepType.LAST}
            assert first[0].all()
            np.testing.assert_array_equal(first[1:], last[:-1])
            assert last.any(), "no episode ended: nothing was tested"
            assert (reward[first] == 0).all()
            assert (discount[first] == 1).all()
            assert (discount[~last] == 1).all()
            assert np.isin(discount[last], (0, 1)).all()
            assert np.isfinite(reward).all()

    def test_observations_are_what_the_spec_says(self, conversation: ScriptedServer) -> None:
        """Finite, within their bounds, and 0 or 1 where they are masks: whatever the kind of action."""
        for group in range(self.num_groups):
            for steps in _bodies(conversation, group):
                for part, spec in zip(steps.observations, self.spec.observations, strict=True):
                    array = np.frombuffer(part, spec.numpy_dtype).reshape(-1, *spec.shape)
                    assert ((array >= spec.lower) & (array <= spec.upper) & np.isfinite(array)).all(), spec.name

    def test_real_ends_are_told(self, conversation: ScriptedServer) -> None:
        """They may be fewer than LAST rows, which can be lost lives; never more. Steps and frames fit each other."""
        for group in range(self.num_groups):
            for steps in _bodies(conversation, group):
                for end in steps.episode_ends:
                    assert steps.step_type[end.row] == StepType.LAST
                    assert end.steps > 0
                    assert end.frames >= end.steps
                    assert np.isfinite(end.episode_return)

    def test_goodbye_comes_last(self, conversation: ScriptedServer) -> None:
        for stream in range(self.num_groups):
            kinds = [heard.kind for heard in conversation.heard if heard.stream == stream]
            assert kinds[-1] == "goodbye"
            assert kinds.count("goodbye") == 1

    @classmethod
    def _hear(cls, server: ScriptedServer, seq: int) -> None:
        """Waits until every group has sent that Steps."""
        _await(lambda: all(_has(server.of_group(group), seq) for group in range(cls.num_groups)))


class ClientConformance(ClientConversation):
    """And what is said when something goes wrong, each time by a client of its own."""

    def test_another_start_is_another_run_of_the_same_client(self, start_client: StartClient) -> None:
        with serving(self.spec, Script()) as (server, address):
            for start in range(2):
                with start_client(address):
                    _await(lambda wanted=start + 1: len(server.of_group(0, "hello")) == wanted)  # type: ignore[misc]
        first, second = (heard.body for heard in server.of_group(0, "hello"))
        assert first.client_id == second.client_id
        assert first.run_id != second.run_id

    @pytest.mark.parametrize("loss", ["before", "after"])
    @pytest.mark.parametrize("seq", [1, 5])
    def test_a_resumed_stream_gets_the_same_steps_again(self, start_client: StartClient, loss: Loss, seq: int) -> None:
        """Whether the server had them or not; the other group notices nothing."""
        with serving(self.spec, Script(losses={(0, seq): loss})) as (server, address), start_client(address):
            self._hear(server, seq + 10)
        sent = [heard for heard in server.of_group(0) if heard.seq == seq]
        assert [heard.body.SerializeToString() for heard in sent] == [sent[0].body.SerializeToString()] * 2
        assert sent[0].stream != sent[1].stream
        hellos = server.of_group(0, "hello")
        assert hellos[0].body == hellos[1].body
        assert [heard.seq for heard in server.of_group(0) if heard.seq > seq][:10] == list(range(seq + 1, seq + 11))
        assert all(len(server.of_group(group, "hello")) == 1 for group in range(1, self.num_groups))

    def test_a_lost_lease_starts_over(self, start_client: StartClient) -> None:
        with serving(self.spec, Script(losses={(0, 5): "lease"})) as (server, address), start_client(address):
            _await(lambda: [heard.seq for heard in server.of_group(0)].count(10) > 0)
        hellos = server.of_group(0, "hello")
        assert hellos[0].body.run_id == hellos[1].body.run_id
        again = [heard for heard in server.of_group(0) if heard.stream == hellos[1].stream]
        assert [heard.seq for heard in again[:10]] == list(range(1, 11))
        assert set(again[0].body.step_type) == {StepType.FIRST}

    def test_a_finished_run_ends_the_client(self, start_client: StartClient) -> None:
        script = Script(drain=pb.Drain(reason=pb.Drain.REASON_FINISHED), drain_after=5)
        with serving(self.spec, script) as (server, address), start_client(address) as client:
            assert client.wait(START_S) == 0
        assert max(heard.seq for heard in server.heard) == 5
        assert len(server.of_group(0, "hello")) == 1

    def test_a_restarting_server_sees_its_clients_again_but_not_too_soon(self, start_client: StartClient) -> None:
        drain = pb.Drain(reason=pb.Drain.REASON_RESTARTING, retry_after_ms=RETRY_AFTER_MS)
        with serving(self.spec, Script(drain=drain, drain_after=5)) as (server, address), start_client(address):
            self._hear(server, 15)
        drained = next(heard for heard in server.heard if heard.seq == 5)
        back = server.of_group(drained.group, "hello")[1]
        assert back.time_s - drained.time_s >= RETRY_AFTER_MS / 1000

    @pytest.mark.parametrize(
        ("status", "name"),
        [
            (grpc.StatusCode.FAILED_PRECONDITION, "SpecError"),
            (grpc.StatusCode.INVALID_ARGUMENT, "InvalidMessageError"),
            (grpc.StatusCode.ABORTED, "FencedError"),
        ],
    )
    def test_what_trying_again_cannot_mend_ends_the_client(
        self, start_client: StartClient, status: grpc.StatusCode, name: str
    ) -> None:
        script = Script(refusals=[(status, name)] * 20)
        with serving(self.spec, script) as (server, address), start_client(address) as client:
            assert client.wait(START_S) != 0
        assert len(server.heard) <= self.num_groups

    def test_a_full_server_is_asked_again(self, start_client: StartClient) -> None:
        script = Script(refusals=[(grpc.StatusCode.RESOURCE_EXHAUSTED, "CapacityError")] * 2)
        with serving(self.spec, script) as (server, address), start_client(address):
            self._hear(server, 3)


def _await(condition: Callable[[], bool]) -> None:
    """Waits for what must happen soon."""
    deadline_s = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def _has(steps: list[Heard], seq: int) -> bool:
    return bool(steps) and steps[-1].seq >= seq


def _num_rows(server: ScriptedServer, group: int) -> int:
    return len(server.of_group(group, "hello")[0].body.environments)


def _bodies(server: ScriptedServer, group: int) -> list[pb.Steps]:
    return [heard.body for heard in server.of_group(group)]
