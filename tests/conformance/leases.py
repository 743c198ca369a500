"""Who holds which rows: resuming, taking over, giving back, running out of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from seedbed.proto import seedbed_pb2 as pb
from tests.conformance.faults import INVALID
from tests.conformance.wire import PATIENCE_S, Ended, RawClient, ServerUnderTest

AT_ONCE_S = 0.5

MakeClient = Callable[..., RawClient]


class LeaseChecks:
    """Part of `PolicyServerConformance`."""

    def test_a_broken_stream_is_resumed(self, client: RawClient) -> None:
        client.connect()
        for _ in range(3):
            client.exchange()
        client.stream.break_off()
        welcome = client.connect()
        assert (welcome.resumed, welcome.last_seq) == (True, 3)
        client.exchange()  # seq 4, within the same episodes

    def test_a_repeated_seq_is_answered_from_the_cache(self, client: RawClient) -> None:
        """Byte for byte, and whatever its rows say the second time: they are not looked at."""
        client.connect()
        client.exchange()
        second = client.steps()
        client.stream.send(second)
        answered = client.answer()
        client.stream.break_off()
        assert client.connect().last_seq == 2
        for name, data in enumerate(second.steps.observations):
            second.steps.observations[name] = data[len(data) // 2 :] + data[: len(data) // 2]  # swaps the two rows
        client.stream.send(second)
        assert client.stream.receive().actions.SerializeToString() == answered.SerializeToString()
        client.exchange()

    def test_steps_lost_in_flight_are_sent_again(self, client: RawClient) -> None:
        """Whether the server had them or not, the answer is right and counts once."""
        client.connect()
        for _ in range(5):
            client.exchange()
            steps = client.steps()
            client.stream.send(steps)
            client.stream.break_off()
            welcome = client.connect()
            assert welcome.resumed
            assert welcome.last_seq in (client.seq - 1, client.seq)
            client.stream.send(steps)
            client.answer()

    def test_resuming_with_other_environments_is_refused(self, client: RawClient) -> None:
        client.connect()
        client.stream.break_off()
        hello = client.hello()
        hello.hello.environments[0].index += 5
        client.dial().send(hello)
        ended = client.stream.end()
        assert ended.status is INVALID
        assert "expected" in ended.details
        assert "got" in ended.details
        assert client.connect().resumed, "a refused resume must not cost the lease"

    def test_an_index_that_another_holds_is_refused(self, client: RawClient, make_client: MakeClient) -> None:
        """Two clients that were started alike must not pass for one; and whoever was there first goes on."""
        client.connect()
        client.exchange()
        twin = make_client()
        twin.first_index = client.first_index + 1  # one of two in common
        with pytest.raises(Ended) as refusal:
            twin.connect()
        assert refusal.value.status is grpc.StatusCode.ALREADY_EXISTS
        assert str(twin.first_index) in refusal.value.details
        assert client.client_id not in refusal.value.details, "with the name anybody could take its place"
        client.exchange()
        client.say_goodbye()
        twin.connect()
        twin.exchange()

    def test_an_index_named_twice_is_refused(self, client: RawClient) -> None:
        hello = client.hello()
        hello.hello.environments[1].index = hello.hello.environments[0].index
        client.dial().send(hello)
        assert client.stream.end().status is INVALID

    def test_the_server_chooses_indices_that_nobody_has(self, client: RawClient, make_client: MakeClient) -> None:
        """And the chosen ones stay with a lease that is resumed, whatever is wished for then."""
        welcome = client.connect()
        named = list(welcome.environment_indices)
        assert named == [client.first_index, client.first_index + 1]
        chosen = []
        others = [make_client(), make_client()]
        for other in others:
            other.dial().send(_hello_with_a_wish(other, wish=client.first_index + 1))
            chosen.append(list(other.stream.receive().welcome.environment_indices))
            other.exchange()
        assert len({*named, *chosen[0], *chosen[1]}) == 6
        others[0].stream.break_off()
        others[0].dial().send(_hello_with_a_wish(others[0], wish=7))
        again = others[0].stream.receive().welcome
        assert (again.resumed, list(again.environment_indices)) == (True, chosen[0])

    def test_a_newer_stream_takes_the_lease_over(self, client: RawClient) -> None:
        client.connect()
        client.exchange()
        old = client.stream
        welcome = client.connect()
        assert (welcome.resumed, welcome.last_seq) == (True, 1)
        client.exchange()
        assert old.end().status is grpc.StatusCode.ABORTED
        old.break_off()

    def test_a_newer_run_ends_all_leases_of_the_older(self, client: RawClient) -> None:
        second_group = client.another(group=1)
        for old in (client, second_group):
            old.connect()
            old.exchange()
        with client.another(run_id=client.run_id + 1) as newer:
            newer.exchange()
            for old in (client, second_group):
                ended = old.stream.end()
                assert ended.status is grpc.StatusCode.ABORTED
                assert client.client_id in ended.details
                old.stream.break_off()

    def test_a_newer_run_ends_leases_in_grace(self, client: RawClient) -> None:
        """And the older one may not take them back, or two clients of one name would take turns."""
        client.connect()
        client.exchange()
        client.stream.break_off()
        with client.another(run_id=client.run_id + 1) as newer:
            newer.exchange()
            with pytest.raises(Ended) as refusal:
                client.connect()
            assert refusal.value.status is grpc.StatusCode.ABORTED
            newer.exchange()

    def test_a_lease_ends_when_its_grace_is_over(self, client: RawClient) -> None:
        client.connect()
        for _ in range(3):
            client.exchange()
        client.stream.break_off()
        time.sleep(client.server.grace_s + AT_ONCE_S)
        welcome = client.connect()
        assert (welcome.resumed, welcome.last_seq) == (False, 0)
        client.start_over()
        client.exchange()

    @pytest.mark.parametrize("defect", ["wrong reward", "wrong seq", "two at once", "garbage", "hello again"])
    def test_a_defect_gives_the_rows_back(self, client: RawClient, make_client: MakeClient, defect: str) -> None:
        """At once: its sender would only come back with the same, and nobody waits for that."""
        client.connect()
        client.exchange()
        steps = client.steps()
        if defect == "wrong reward":
            steps.steps.reward = b""
        elif defect == "wrong seq":
            steps.steps.seq += 1
        messages: list[Any] = [steps]
        if defect == "two at once":
            messages += [client.steps() for _ in range(200)]  # a fast server may answer some before it reads the next
        elif defect == "garbage":
            messages = [b"\xff" * 20]
        elif defect == "hello again":
            messages = [client.hello()]
        for message in messages:
            client.stream.send(message)
        assert client.stream.end().status is not grpc.StatusCode.OK
        heir = make_client()
        heir.first_index = client.first_index
        _connect(heir, within_s=AT_ONCE_S)
        heir.exchange()

    def test_a_lease_that_ended_by_a_defect_begins_anew(self, client: RawClient) -> None:
        client.connect()
        client.exchange()
        client.stream.send(b"")
        client.stream.end()
        welcome = client.connect()
        assert (welcome.resumed, welcome.last_seq) == (False, 0)
        client.start_over()
        client.exchange()

    def test_rows_are_granted_until_there_are_none(self, server: ServerUnderTest, make_client: MakeClient) -> None:
        """A lost client keeps its rows for the grace time; one that says goodbye gives them back at once."""
        polite, lost = make_client(num_envs=server.num_slots - 1), make_client(num_envs=1)
        newcomer = make_client(num_envs=1)
        _connect(polite, within_s=server.grace_s + PATIENCE_S)  # leases of other clients may have to run out first
        lost.connect()
        lost.stream.break_off()
        with pytest.raises(Ended) as refusal:
            newcomer.connect()
        assert refusal.value.status is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "expected 1 free" in refusal.value.details
        polite.exchange()
        polite.say_goodbye()
        _connect(newcomer, within_s=AT_ONCE_S)
        newcomer.exchange()


_TAKEN = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ALREADY_EXISTS)
"""Its holder is on its way out: two streams may end at two processes, which tell a third."""


def _hello_with_a_wish(client: RawClient, wish: int) -> pb.ClientMessage:
    """A Hello that leaves the indices to the server."""
    hello = client.hello()
    hello.hello.assign_indices = True
    for environment in hello.hello.environments:
        environment.index = wish
    return hello


def _connect(client: RawClient, *, within_s: float) -> None:
    """Asks for a lease until there is room."""
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            client.connect()
            return
        except Ended as ended:
            client.stream.break_off()
            if time.monotonic() > deadline_s or ended.status not in _TAKEN:
                raise
            time.sleep(0.05)
