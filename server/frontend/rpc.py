"""What a stream's handler needs of gRPC's asyncio server, and that does not give by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from seedbed.common.errors import ERROR_NAME_KEY, InvalidMessageError, SeedbedError
from seedbed.proto import seedbed_pb2 as pb

_HELLO_TIMEOUT_S = 10.0
_MAX_HOST_LENGTH = 64
_MAX_TEXT_LENGTH = 600
"""gRPC percent-encodes the text of a status, up to 12 bytes a character, and clients refuse more than 8 KiB of it."""


async def read_message(context: Any) -> pb.ClientMessage | None:
    """The next message, or None when the client has closed its half."""
    try:
        message = await context.read()
    except DecodeError as error:
        raise InvalidMessageError(f"expected a ClientMessage, got bytes that are none ({error})") from None
    return None if message is grpc.aio.EOF else message


async def read_hello(context: Any) -> pb.Hello:
    """The first message of a stream.

    Raises:
        InvalidMessageError: it is something else, or does not come in time.
    """
    try:
        message = await asyncio.wait_for(read_message(context), _HELLO_TIMEOUT_S)
    except TimeoutError:
        raise InvalidMessageError(f"expected Hello within {_HELLO_TIMEOUT_S:g} s") from None
    if message is None or message.WhichOneof("body") != "hello":
        raise InvalidMessageError(f"expected Hello first, got {message and message.WhichOneof('body')}")
    return message.hello


async def first_done(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Runs the coroutines until the first ends; the others are cancelled and its exception, if any, is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        errors = [task.exception() for task in done]
    finally:
        for task in tasks:
            task.cancel()
    for error in errors:
        if error is not None:
            raise error


def host_of(peer: str) -> str:
    """The host in gRPC's name for the other side, "ipv4:192.0.2.7:4711" or "ipv6:%5B::1%5D:4711"; for people."""
    return unquote(peer.partition(":")[2].rpartition(":")[0]).strip("[]")[:_MAX_HOST_LENGTH]


def text_of(error: SeedbedError) -> str:
    """The text of an error, for a log or a status, cut: it may quote what the client sent."""
    text = str(error)
    return text if len(text) <= _MAX_TEXT_LENGTH else f"{text[:_MAX_TEXT_LENGTH]}... ({len(text)} characters)"


async def abort(context: Any, error: SeedbedError) -> NoReturn:
    """Ends a call with the status of an error, and its name, which several share a status."""
    code = getattr(grpc.StatusCode, error.status)
    await context.abort(code, text_of(error), trailing_metadata=((ERROR_NAME_KEY, type(error).__name__),))
    raise AssertionError("abort returns never")
