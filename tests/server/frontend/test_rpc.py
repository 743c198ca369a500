"""The first message of a stream: it comes, comes too late, or is another."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from seedbed.common.errors import InvalidMessageError
from seedbed.proto import seedbed_pb2 as pb
from seedbed.server.frontend import rpc


class Silent:
    """A stream on which nothing is ever said."""

    async def read(self) -> Any:
        await asyncio.Event().wait()


class Said:
    """A stream with one message."""

    def __init__(self, message: Any) -> None:
        self._message = message

    async def read(self) -> Any:
        return self._message


def test_a_stream_without_hello_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or silent streams would pile up; with real ones: test_hostile_input.py."""
    monkeypatch.setattr(rpc, "_HELLO_TIMEOUT_S", 0.05)
    with pytest.raises(InvalidMessageError, match=r"expected Hello within 0\.05 s"):
        asyncio.run(asyncio.wait_for(rpc.read_hello(Silent()), 30))


@pytest.mark.parametrize(("message", "got"), [(grpc.aio.EOF, "None"), (pb.ClientMessage(steps=pb.Steps()), "steps")])
def test_something_else_than_hello_is_refused(message: Any, got: str) -> None:
    with pytest.raises(InvalidMessageError, match=f"expected Hello first, got {got}"):
        asyncio.run(rpc.read_hello(Said(message)))


def test_hello() -> None:
    hello = pb.ClientMessage(hello=pb.Hello(client_id="someone"))
    assert asyncio.run(rpc.read_hello(Said(hello))).client_id == "someone"
