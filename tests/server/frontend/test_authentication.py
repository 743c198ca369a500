"""A real gRPC server behind the interceptor: every kind of call, known or not, with and without a token."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from seedbed.common.credentials import Tokens, watch_tokens
from seedbed.common.errors import ERROR_NAME_KEY, AuthError
from seedbed.server.frontend.authentication import TokenRequired

TOKEN, NEXT = "0123456789abcdef", "fedcba9876543210"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
Metadata = Sequence[tuple[str, str]]


class Calls:
    """A service with a method of each kind, named like it."""

    def __init__(self, tokens: Path) -> None:
        self.seen: list[str] = []
        self.decoded = 0
        self._tokens = tokens

    def run(self, *calls: tuple[str, str, Metadata], silent: bool = False) -> list[str]:
        """Calls (kind, method, metadata) one after the other; returns "OK" or a status for each.

        Silent ones never send the message they should.
        """
        return asyncio.run(self._run(calls, silent))

    async def _run(self, calls: Sequence[tuple[str, str, Metadata]], silent: bool) -> list[str]:
        interceptor = TokenRequired(watch_tokens(self._tokens))
        server = grpc.aio.server(interceptors=[interceptor], options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Test", self._handlers()),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                return [await self._call(channel, *call, silent=silent) for call in calls]
        finally:
            await server.stop(None)

    def _handlers(self) -> dict[str, Any]:
        async def unary(_: Any, __: Any) -> bytes:
            self.seen.append("unary")
            return b"x"

        async def stream(_: Any, context: Any) -> None:
            self.seen.append("stream")
            await context.write(b"x")

        def decode(data: bytes) -> bytes:
            self.decoded += 1
            return data

        answers = {"unary": unary, "stream": stream}
        return {
            kind: getattr(grpc, f"{kind}_rpc_method_handler")(answers[kind.split("_")[1]], request_deserializer=decode)
            for kind in KINDS
        }

    async def _call(
        self, channel: grpc.aio.Channel, kind: str, method: str, metadata: Metadata, *, silent: bool
    ) -> str:
        async def requests() -> AsyncIterator[bytes]:
            if silent:
                await asyncio.sleep(60)
            yield b"x"

        opened = getattr(channel, kind)(f"/Test/{method}")
        request = requests() if kind.startswith("stream") else b"x"
        call = opened(request, metadata=metadata, timeout=10)
        try:
            if kind.endswith("unary"):
                await call
            else:
                assert [answer async for answer in call] == [b"x"]
        except grpc.aio.AioRpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            return f"{error.code().name} {trailing.get(ERROR_NAME_KEY)} {error.details()}"
        return "OK"


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    (tmp_path / "token").write_text(TOKEN)
    return Calls(tmp_path / "token")


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def test_every_kind_of_call_with_the_token(calls: Calls) -> None:
    assert calls.run(*((kind, kind, bearer(TOKEN)) for kind in KINDS)) == ["OK"] * 4


@pytest.mark.parametrize(
    ("metadata", "got"), [((), "none"), (bearer("x"), "another one"), (bearer(NEXT), "another one")]
)
def test_every_kind_of_call_without(calls: Calls, metadata: Metadata, got: str) -> None:
    """Refused in the same words, before a handler runs and before a message is even decoded."""
    refusals = calls.run(*((kind, kind, metadata) for kind in KINDS))
    assert set(refusals) == {
        f"UNAUTHENTICATED AuthError expected this server's token (--token-file of the client), got {got}"
    }
    assert calls.seen == []
    assert calls.decoded == 0


def test_who_says_nothing_is_refused_at_once(calls: Calls) -> None:
    """Nothing is awaited of a caller without a token."""
    for kind in ("stream_unary", "stream_stream"):
        assert calls.run((kind, kind, ()), silent=True)[0].startswith("UNAUTHENTICATED")


def test_strangers_do_not_learn_which_methods_exist(calls: Calls) -> None:
    known, unknown = calls.run(("unary_unary", "unary_unary", ()), ("unary_unary", "nothing", ()))
    assert known == unknown
    assert calls.run(("unary_unary", "nothing", bearer(TOKEN)))[0].startswith("UNIMPLEMENTED")


def test_a_token_of_a_megabyte(calls: Calls) -> None:
    """gRPC's own limit of metadata comes first."""
    assert calls.run(("stream_stream", "stream_stream", bearer("x" * 2**20)))[0].startswith("RESOURCE_EXHAUSTED")
    assert calls.seen == []


def test_no_tokens_let_nobody_through(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed.common.credentials._read_tokens", lambda _: [])
    assert calls.run(("unary_unary", "unary_unary", bearer("")))[0].startswith("UNAUTHENTICATED")


def test_refusals_are_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    interceptor = TokenRequired(watch_tokens(None), clock=lambda: now_s)
    with caplog.at_level(logging.WARNING):
        for now_s in (0.0, 1.0, 9.9, 10.0, 19.0, 40.0):
            interceptor._log(f"peer at {now_s}")
    assert [record.message.partition("from ")[2] for record in caplog.records] == [
        "peer at 0.0",
        "peer at 10.0; 2 more before it",
        "peer at 40.0; 1 more before it",
    ]


def test_the_refusal_is_an_auth_error() -> None:
    assert AuthError.status == "UNAUTHENTICATED"
    assert not Tokens([]).values
