"""Back-off, and asking a server what it serves."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest

from seedbed.common.codec import spec_to_message
from seedbed.common.errors import SpecError, UnavailableError, VersionError
from seedbed.env_client import connection
from seedbed.env_client.connection import Backoff
from seedbed.env_client.environments.building import describe
from seedbed.env_client.servers import Servers, describe_servers
from seedbed.proto import seedbed_pb2 as pb
from tests.echo_server import EchoServer


def ask(server: EchoServer) -> object:
    async def run() -> object:
        await server.start()
        try:
            return await describe_servers(Servers(server.address))
        finally:
            await server.stop()

    return asyncio.run(run())


def test_describe_server() -> None:
    server = EchoServer()
    spec = describe("seedbed/EchoMixed-v0", "")
    server.specs = [spec_to_message(spec)]
    assert ask(server) == (spec,)


def test_describe_asks_again_until_the_server_knows(caplog: pytest.LogCaptureFixture) -> None:
    server = EchoServer()
    spec = describe("seedbed/Echo-v0", "")
    server.specs, server.knows_after = [spec_to_message(spec)], 2
    assert ask(server) == (spec,)
    assert server.num_asked == 3
    assert caplog.text.count("the server has no environment yet") == 1


def test_describe_gives_a_spec_for_each_task() -> None:
    server = EchoServer()
    specs = [describe(name, "") for name in ("seedbed/Echo-v0", "seedbed/EchoBox-v0")]
    server.specs = list(map(spec_to_message, specs))
    assert ask(server) == tuple(specs)


def test_describe_refuses_another_protocol() -> None:
    server = EchoServer()
    server.protocol = pb.ProtocolVersion(major=99)
    with pytest.raises(VersionError, match="99"):
        ask(server)


def test_backoff_is_full_jitter_below_a_doubling_limit() -> None:
    highest = [0.0] * 8
    lowest = [np.inf] * 8
    for seed in range(400):
        backoff = Backoff(_random=random.Random(seed))
        for attempt in range(8):
            wait_s = backoff.next_wait_s(UnavailableError("away"), now_s=0.0)
            assert 0 <= wait_s <= min(0.25 * 2**attempt, 5)
            highest[attempt] = max(highest[attempt], wait_s)
            lowest[attempt] = min(lowest[attempt], wait_s)
    np.testing.assert_allclose(highest, [0.25, 0.5, 1, 2, 4, 5, 5, 5], rtol=0.05)
    np.testing.assert_array_less(lowest, 0.05 * np.array(highest))


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
    assert (Backoff().initial_s, Backoff().max_s, connection.REPLY_TIMEOUT_S) == (0.25, 5.0, 10.0)


def test_an_outage_is_told_ever_more_rarely(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now_s = 100.0
    monkeypatch.setattr(connection.time, "monotonic", lambda: now_s)

    complaints = connection.Complaints()

    def fails(text: str, seconds: float) -> list[str]:
        nonlocal now_s
        caplog.clear()
        end_s = now_s + seconds
        while now_s < end_s:
            for _group in range(2):
                complaints.tell(text, 2.5)
            now_s += 2.5
        return [record.getMessage() for record in caplog.records]

    assert fails("away", 60) == [
        "away; next attempt in 2.50 s",
        "away; tried again and again for 10 s",
        "away; tried again and again for 30 s",
    ]
    assert fails("refused", 5) == ["refused; next attempt in 2.50 s"], "something else is told at once"
    assert len(fails("away", 3600)) == 14, "every five minutes in the end"
    now_s += 120
    assert fails("away", 5) == ["away; next attempt in 2.50 s"], "another outage begins anew"


def test_where_nobody_listens_the_words_of_the_doctor_are_used() -> None:
    with pytest.raises(UnavailableError, match=r"gave up after \d+ s: nobody listens on 127.0.0.1:1: is the server"):
        asyncio.run(describe_servers(Servers("127.0.0.1:1", give_up_after_s=0.0)))
