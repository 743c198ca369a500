"""What every policy server must do. Inherit `PolicyServerConformance` and give the fixture `server`."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest

from seedbed.common.codec import PROTOCOL_MAJOR, spec_from_message
from seedbed.common.timestep import StepType
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub
from tests.conformance.faults import FIRST_FAULTS, HELLO_FAULTS, INVALID, STEPS_FAULTS, Fault, Words
from tests.conformance.leases import LeaseChecks
from tests.conformance.wire import PATIENCE_S, Ended, RawClient, ServerUnderTest

HEALTHY_WITHIN_S = 1.0
"""How soon everybody else must still be answered, whatever one client does."""

GARBAGE = (b"\xff" * 20, b"\x0a\xff\xff\xff\xff\x0f", b"GET / HTTP/1.1\r\n\r\n")


class ConversationChecks:
    """What is right is answered right."""

    def test_describe_says_what_is_served(self, server: ServerUnderTest) -> None:
        with grpc.insecure_channel(server.address) as channel:
            reply = SeedbedStub(channel).Describe(pb.DescribeRequest(), timeout=PATIENCE_S)
        assert reply.protocol.major == PROTOCOL_MAJOR
        assert [spec_from_message(spec) for spec in reply.specs] == [server.spec]

    def test_welcome_grants_a_new_lease(self, client: RawClient) -> None:
        welcome = client.connect()
        assert welcome.protocol.major == PROTOCOL_MAJOR
        assert (welcome.resumed, welcome.last_seq) == (False, 0)
        assert welcome.grace_s == pytest.approx(client.server.grace_s)
        assert list(welcome.tasks) == [0] * client.num_envs, "a position in the list of Describe for each row"

    @pytest.mark.parametrize("num_envs", [1, 3, 8])
    def test_every_steps_has_its_answer(self, server: ServerUnderTest, num_envs: int) -> None:
        """Over episodes that end at different times in different rows; `RawClient` checks each answer."""
        with RawClient(server, num_envs=num_envs) as client:
            versions = [client.exchange().policy_version for _ in range(20)]
        assert versions == sorted(versions)

    def test_groups_are_leases_of_their_own(self, client: RawClient) -> None:
        client.connect()
        with client.another(group=1 - client.group) as other:
            for _ in range(5):
                client.stream.send(client.steps())
                other.exchange()
                client.answer()

    def test_rows_end_and_begin_at_any_time(self, client: RawClient) -> None:
        """An episode may be as short as FIRST, LAST."""
        client.connect()
        client.exchange()
        for step_type in (StepType.LAST, StepType.FIRST, StepType.LAST, StepType.FIRST, StepType.MID):
            message = client.steps()
            message.steps.step_type = bytes([step_type]) * client.num_envs
            message.steps.reward = bytes(4 * client.num_envs)
            message.steps.discount = np.ones(client.num_envs, "<f4").tobytes()
            client.stream.send(message)
            client.answer()

    def test_goodbye_ends_the_stream_well(self, client: RawClient) -> None:
        client.connect()
        client.exchange()
        assert client.say_goodbye().status is grpc.StatusCode.OK


class HostileChecks:
    """What is wrong costs its sender its stream, says why, and costs nobody else anything."""

    @pytest.fixture
    def witness(self, server: ServerUnderTest) -> Iterator[RawClient]:
        """The blast radius: a healthy client from before the deed gets right answers after it, and soon."""
        with RawClient(server, num_envs=1) as healthy:
            healthy.exchange()
            yield healthy
            for _ in range(3):
                healthy.exchange(HEALTHY_WITHIN_S)

    @pytest.mark.parametrize("fault", HELLO_FAULTS, ids=str)
    @pytest.mark.usefixtures("witness")
    def test_a_wrong_hello_is_refused(self, client: RawClient, fault: Fault) -> None:
        hello = client.hello()
        words = fault.apply(hello.hello, client.server.spec)
        if words is None:
            pytest.skip("this spec has no room for that fault")
        client.dial().send(hello)
        _assert_refused(client.stream.end(), fault.status, words)

    @pytest.mark.parametrize("fault", STEPS_FAULTS, ids=str)
    @pytest.mark.usefixtures("witness")
    def test_wrong_steps_are_refused(self, client: RawClient, fault: Fault) -> None:
        client.connect()
        client.exchange()
        client.exchange()
        steps = client.steps()
        words = fault.apply(steps.steps, client.server.spec)
        if words is None:
            pytest.skip("this spec has no room for that fault")
        client.stream.send(steps)
        _assert_refused(client.stream.end(), fault.status, words)

    @pytest.mark.parametrize("fault", FIRST_FAULTS, ids=str)
    @pytest.mark.usefixtures("witness")
    def test_first_carries_no_reward_and_no_end(self, client: RawClient, fault: Fault) -> None:
        client.connect()
        steps = client.steps()
        words = fault.apply(steps.steps, client.server.spec)
        assert words is not None
        client.stream.send(steps)
        _assert_refused(client.stream.end(), fault.status, words)

    @pytest.mark.usefixtures("witness")
    def test_first_steps_must_be_first(self, client: RawClient) -> None:
        client.connect()
        steps = client.steps()
        steps.steps.step_type = bytes([StepType.MID]) * client.num_envs
        client.stream.send(steps)
        _assert_refused(client.stream.end(), INVALID, ("step_type",))

    @pytest.mark.usefixtures("witness")
    def test_first_must_follow_last(self, client: RawClient) -> None:
        client.connect()
        client.exchange()
        for step_type in (StepType.LAST, StepType.MID):
            steps = client.steps()
            steps.steps.step_type = bytes([step_type]) * client.num_envs
            client.stream.send(steps)
            if step_type is StepType.LAST:
                client.answer()
        _assert_refused(client.stream.end(), INVALID, ("step_type",))

    @pytest.mark.usefixtures("witness")
    def test_a_second_steps_in_flight_is_refused(self, client: RawClient) -> None:
        """Many at once: a fast server may answer some before it reads the next."""
        client.connect()
        for _ in range(200):
            client.stream.send(client.steps())
        ended = client.stream.end()
        _assert_refused(ended, grpc.StatusCode.RESOURCE_EXHAUSTED, ())

    @pytest.mark.parametrize("garbage", GARBAGE)
    @pytest.mark.usefixtures("witness")
    def test_bytes_that_are_no_message_are_refused(self, client: RawClient, garbage: bytes) -> None:
        client.dial().send(garbage)
        _assert_refused(client.stream.end(), INVALID, ())
        client.connect()
        client.stream.send(garbage)
        _assert_refused(client.stream.end(), INVALID, ())

    @pytest.mark.usefixtures("witness")
    def test_a_message_without_body_is_refused(self, client: RawClient) -> None:
        client.dial().send(b"")
        _assert_refused(client.stream.end(), INVALID, ("Hello",))
        client.connect()
        client.stream.send(b"")
        _assert_refused(client.stream.end(), INVALID, ("Steps",))

    @pytest.mark.usefixtures("witness")
    def test_a_message_too_large_is_refused(self, client: RawClient) -> None:
        client.connect()
        rows = sum(spec.row_bytes for spec in client.server.spec.observations) * client.server.num_slots
        client.stream.send(bytes(8 * rows + (4 << 20)))
        assert client.stream.end().status is grpc.StatusCode.RESOURCE_EXHAUSTED

    @pytest.mark.usefixtures("witness")
    def test_steps_before_hello_are_refused(self, client: RawClient) -> None:
        client.dial().send(client.steps())
        _assert_refused(client.stream.end(), INVALID, ("Hello",))

    @pytest.mark.usefixtures("witness")
    def test_a_second_hello_is_refused(self, client: RawClient) -> None:
        client.connect()
        client.stream.send(client.hello())
        _assert_refused(client.stream.end(), INVALID, ("Steps", "hello"))

    @pytest.mark.usefixtures("witness")
    def test_more_environments_than_rows_are_refused(self, server: ServerUnderTest) -> None:
        client = RawClient(server, num_envs=server.num_slots + 1)
        with pytest.raises(Ended) as refusal:
            client.connect()
        client.stream.break_off()
        assert refusal.value.status in (INVALID, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert str(server.num_slots + 1) in refusal.value.details

    @pytest.mark.usefixtures("witness")
    def test_a_client_that_leaves_in_the_middle(self, server: ServerUnderTest) -> None:
        for _ in range(5):
            client = RawClient(server, num_envs=1)
            client.connect()
            client.stream.send(client.steps())
            client.stream.break_off()

    def test_a_silent_client_holds_nobody_up(self, client: RawClient, witness: RawClient) -> None:
        """It has a lease and rows, and sends nothing."""
        client.connect()
        client.exchange()
        for _ in range(20):
            witness.exchange(HEALTHY_WITHIN_S)
        with pytest.raises(queue.Empty):
            client.stream.receive(0.0)
        client.exchange()


class PolicyServerConformance(ConversationChecks, HostileChecks, LeaseChecks):
    """All of it. A subclass gives the fixture `server`."""

    @pytest.fixture
    def client(self, server: ServerUnderTest) -> Iterator[RawClient]:
        """A client that has not called yet."""
        client = RawClient(server)
        yield client
        client.leave()

    @pytest.fixture
    def make_client(self, server: ServerUnderTest) -> Iterator[Callable[..., RawClient]]:
        """Makes clients that leave at the end."""
        made: list[RawClient] = []

        def make(num_envs: int = 2) -> RawClient:
            made.append(RawClient(server, num_envs=num_envs))
            return made[-1]

        yield make
        for client in made:
            client.leave()


def _assert_refused(ended: Ended, status: grpc.StatusCode, words: Words) -> None:
    assert ended.status is status, ended
    assert ended.error_name, f"expected the name of the error in the trailing metadata, {ended} has none"
    wanted = ["expected", "got", *words] if status is INVALID else words
    missing = [word for word in wanted if word not in ended.details]
    assert not missing, f"expected {missing} in the refusal, got {ended.details!r}"
