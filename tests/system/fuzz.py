"""Random mutations of right messages, and streams that send them. The seed decides everything but timing."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from seedbed.proto import seedbed_pb2 as pb
from tests.conformance.wire import RawClient, ServerUnderTest

FUZZ_INDEX = 100_000
"""Environments of fuzzing clients begin here, unless a mutation has it otherwise."""

_STREAMS = 8
_ANSWER_S = 10.0
_LOST = "Internal error from Core"
"""What gRPC's asyncio client says, and not the server, when a call ends while it writes."""


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _replace(data: bytearray, rng: random.Random) -> None:
    """With what parsers trip over: ends of ranges, and lengths that never end."""
    data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 16)]


def _insert(data: bytearray, rng: random.Random) -> None:
    start = rng.randint(0, len(data))
    data[start:start] = rng.randbytes(rng.randint(1, 32))


def _repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    end = start + rng.randint(1, 64)
    data[end:end] = data[start:end] * rng.randint(1, 20)


def _noise(data: bytearray, rng: random.Random) -> None:
    data[:] = rng.randbytes(rng.randint(0, 300))


_MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _flip,
    _replace,
    _truncate,
    _remove,
    _insert,
    _repeat,
    _noise,
)


_NUMBERS = (0, 1, 2, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, -1)
_FLOATS = (0.0, -0.0, 1.0, -1e308, 1e308, 5e-324, math.nan, math.inf, -math.inf)
_TEXTS = ("", "x", "\0", "\n" * 50, "os:system", "\u732b" * 500, "%s%n{0}", "../" * 40)


def set_a_field(message: Any, rng: random.Random) -> None:
    """Gives one field of a protobuf message, or of a message within it, a value out of the ordinary."""
    field = rng.choice(message.DESCRIPTOR.fields)
    present = message.ListFields()
    if present and rng.random() < 0.8:
        field = rng.choice(present)[0]
    value = getattr(message, field.name)
    if field.is_repeated:
        match rng.randrange(3):
            case 0:
                message.ClearField(field.name)
            case 1:
                value.extend(list(value) * rng.choice((1, 2, 300)))
            case _ if len(value) and field.type == field.TYPE_MESSAGE:
                set_a_field(rng.choice(value), rng)
            case _ if len(value):
                place = rng.randrange(len(value))
                with suppress(ValueError):  # out of the field's range
                    value[place] = _scalar(field, value[place], rng)
    elif field.type == field.TYPE_MESSAGE:
        set_a_field(value, rng)
    else:
        with suppress(ValueError):  # out of the field's range
            setattr(message, field.name, _scalar(field, value, rng))


def _scalar(field: Any, value: Any, rng: random.Random) -> Any:
    match field.cpp_type:
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return rng.choice(_FLOATS)
        case field.CPPTYPE_STRING if field.type == field.TYPE_BYTES:
            floats = struct.pack(f"<{len(value) // 4}f", *rng.choices(_FLOATS[:3] + _FLOATS[5:], k=len(value) // 4))
            return rng.choice((b"", value[:-1], value * 2, rng.randbytes(len(value)), floats))
        case field.CPPTYPE_STRING:
            return rng.choice(_TEXTS)
        case field.CPPTYPE_BOOL:
            return not value
    return rng.choice(_NUMBERS)


def mutate(message: bytes, rng: random.Random) -> bytes:
    """A field out of the ordinary, or one to three mutations of the bytes, one after the other."""
    if rng.random() < 0.5:
        parsed = pb.ClientMessage.FromString(message)
        set_a_field(parsed, rng)
        return parsed.SerializeToString()
    data = bytearray(message)
    for _ in range(rng.randint(1, 3)):
        if data:
            rng.choice(_MUTATIONS)(data, rng)
    return bytes(data)


class Fuzzer:
    """Several streams at a time, each until the server ends it, over one connection without serializers.

    Args:
        server: to call.
        seed: of everything.

    Attributes:
        sent: mutated messages so far.
        statuses: how streams ended.
        examples: of each status the last message of a stream that ended so, and the text it ended with.
        answered: messages that were answered in spite of it: a mutation need not break the contract.
    """

    def __init__(self, server: ServerUnderTest, seed: int) -> None:
        self._server = server
        self._rng = random.Random(seed)
        self._indices = itertools.count(FUZZ_INDEX)
        self._loop = asyncio.new_event_loop()
        self.sent = 0
        self.answered = 0
        self.statuses: Counter[str] = Counter()
        self.examples: dict[str, tuple[bytes, str]] = {}
        self._last: dict[grpc.aio.StreamStreamCall, bytes] = {}

    def run(self, num_messages: int) -> None:
        """Sends so many mutated messages."""
        self._loop.run_until_complete(self._run(self.sent + num_messages))

    def close(self) -> None:
        """Closes its event loop: gRPC's asyncio side does not like many of them."""
        self._loop.close()

    async def _run(self, until: int) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
        async with grpc.aio.insecure_channel(self._server.address, options=options) as channel:
            act = channel.stream_stream("/seedbed.v1.Seedbed/Act")
            await asyncio.gather(*(self._stream_after_stream(act, until) for _ in range(_STREAMS)))

    async def _stream_after_stream(self, act: grpc.aio.StreamStreamMultiCallable, until: int) -> None:
        while self.sent < until:
            call = act()
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the server ended it: its status says why
                await self._talk(call, until)
            if not call.done():  # it waits for the rest of a message that makes sense
                call.cancel()
            self._note_end((await call.code()).name, await call.details() or "", self._last.pop(call))

    def _note_end(self, status: str, text: str, message: bytes) -> None:
        if text == _LOST:
            status = "LOST"
        self.statuses[status] += 1
        self.examples[status] = (message, text)

    async def _talk(self, call: grpc.aio.StreamStreamCall, until: int) -> None:
        """A Hello, right or mutated, and then Steps, each of them mutated or not."""
        client = RawClient(self._server, num_envs=self._rng.randint(1, 4))
        hello = client.hello()
        for environment in hello.hello.environments:
            environment.index = next(self._indices)
        await self._say(call, hello.SerializeToString(), self._rng.random() < 0.4)
        while self.sent < until:
            await self._say(call, client.steps().SerializeToString(), self._rng.random() < 0.5)

    async def _say(self, call: grpc.aio.StreamStreamCall, message: bytes, wrong: bool) -> None:
        """Sends it and waits for what comes back."""
        if wrong:
            self.sent += 1
            message = mutate(message, self._rng)
        self._last[call] = message
        await call.write(message)
        reply = await asyncio.wait_for(call.read(), _ANSWER_S)
        if reply is grpc.aio.EOF:
            raise asyncio.InvalidStateError
        self.answered += wrong
