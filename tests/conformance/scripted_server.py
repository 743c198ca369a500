"""A policy server that follows a script and writes down the conversation: the other end of a client under test."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc
import grpc.aio
import numpy as np

from seedbed.common.codec import protocol_version, spec_to_message
from seedbed.common.errors import ERROR_NAME_KEY
from seedbed.common.specs import EnvironmentSpec
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedServicer, add_SeedbedServicer_to_server

_BETRAYAL_S = 0.01
"""How long an answer is held back: a client that does not wait for answers shows itself."""

Loss = Literal["before", "after", "lease"]
"""What breaks with a stream: the Steps is lost, or its answer is, or the server forgets the lease as well."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One message that a client sent.

    Attributes:
        stream: which Act call, from 0 in the order of their Hellos.
        group: of the stream.
        seq: of a Steps, otherwise 0.
        awaited: "welcome" or "actions" if the client owed its patience, otherwise "".
        time_s: when.
    """

    stream: int
    group: int
    kind: str
    body: Any
    seq: int
    awaited: str
    time_s: float


@dataclass
class Script:
    """What the server does.

    Attributes:
        losses: (group, seq) -> how its stream breaks, once.
        drain: sent instead of answering this seq of any group.
        drain_after: that seq.
        refusals: statuses and error names with which the first Hellos are refused.
        welcome_after_s: how slow Welcome is.
    """

    losses: dict[tuple[int, int], Loss] = field(default_factory=dict)
    drain: pb.Drain | None = None
    drain_after: int = 0
    refusals: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    welcome_after_s: float = 0.05


class ScriptedServer(SeedbedServicer):
    """Answers every Steps with random legal actions.

    Attributes:
        heard: all messages, in order.
    """

    def __init__(self, spec: EnvironmentSpec, script: Script) -> None:
        self.heard: list[Heard] = []
        self._spec = spec
        self._script = script
        self._streams = itertools.count()
        self._leases: dict[tuple[str, int, int], tuple[int, pb.Actions]] = {}
        self._rng = np.random.default_rng(0)

    def of_group(self, group: int, kind: str = "steps") -> list[Heard]:
        """Messages of one kind on all streams of one group."""
        return [heard for heard in list(self.heard) if heard.group == group and heard.kind == kind]

    async def Describe(self, _: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        """For a client that asks first."""
        return pb.DescribeResponse(protocol=protocol_version(), specs=[spec_to_message(self._spec)])

    async def Act(self, _: Any, context: Any) -> None:
        """One stream."""
        stream = _Stream(context, next(self._streams), self.heard)
        hello = await stream.read("")
        if hello is None:
            return
        key = (hello.client_id, hello.run_id, hello.group)
        if self._script.refusals:
            status, name = self._script.refusals.pop(0)
            await context.abort(status, "as the script says", trailing_metadata=((ERROR_NAME_KEY, name),))
        await stream.listen_for(self._script.welcome_after_s, "welcome")
        resumed = key in self._leases
        last_seq, cached = self._leases.setdefault(key, (0, pb.Actions()))
        welcome = pb.Welcome(
            protocol=protocol_version(),
            resumed=resumed,
            last_seq=last_seq,
            grace_s=30,
            environment_indices=[environment.index for environment in hello.environments],
            tasks=[0] * len(hello.environments),
        )
        await context.write(pb.ServerMessage(welcome=welcome))
        while (steps := await stream.read("")) is not None:
            if steps.seq != last_seq:
                loss = self._script.losses.pop((hello.group, steps.seq), None)
                if loss == "before":
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "as the script says")
                last_seq, cached = steps.seq, self._answer(steps.seq, len(hello.environments))
                self._leases[key] = last_seq, cached
                if loss == "lease":
                    self._leases.clear()
                if loss is not None:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "as the script says")
            await stream.listen_for(_BETRAYAL_S, "actions")
            drain = self._script.drain if steps.seq >= self._script.drain_after else None
            if drain is not None:
                await context.write(pb.ServerMessage(drain=drain))
                if drain.reason == pb.Drain.REASON_RESTARTING:
                    self._script.drain = None
                    return
                continue
            await context.write(pb.ServerMessage(actions=cached))

    def _answer(self, seq: int, num_rows: int) -> pb.Actions:
        arrays = []
        for spec in self._spec.actions:
            array = self._rng.uniform(spec.sent_low, spec.sent_high, (num_rows, *spec.shape))
            arrays.append((array if spec.kind == "box" else np.rint(array)).astype(spec.numpy_dtype).tobytes())
        return pb.Actions(seq=seq, actions=arrays)


class _Stream:
    """Reads one call, always, so that what comes at the wrong time is noticed."""

    def __init__(self, context: Any, number: int, heard: list[Heard]) -> None:
        self._context = context
        self._number = number
        self._group = -1
        self._heard = heard
        self._left = False
        self._reading: asyncio.Task[Any] = asyncio.ensure_future(context.read())

    async def read(self, awaited: str) -> Any:
        """The next Hello or Steps; None when the client has left."""
        if self._left:
            return None
        message = await self._reading
        if message is grpc.aio.EOF:
            return None
        kind = message.WhichOneof("body")
        body = getattr(message, kind)
        if kind == "hello":
            self._group = body.group
        seq = body.seq if kind == "steps" else 0
        self._heard.append(Heard(self._number, self._group, kind, body, seq, awaited, time.monotonic()))
        if kind == "goodbye":
            self._left = True
            return None
        self._reading = asyncio.ensure_future(self._context.read())
        return body

    async def listen_for(self, wait_s: float, awaited: str) -> None:
        """Waits, and notes what the client says before its turn."""
        done, _ = await asyncio.wait({self._reading}, timeout=wait_s)
        if done:
            await self.read(awaited)


@contextmanager
def serving(spec: EnvironmentSpec, script: Script) -> Iterator[tuple[ScriptedServer, str]]:
    """Runs a server on a thread of its own; gives it and its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[ScriptedServer, grpc.aio.Server, int]:
        servicer, server = ScriptedServer(spec, script), grpc.aio.server()
        add_SeedbedServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return servicer, server, port

    servicer, server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
