"""One group's lease of rows on the server, kept alive through broken streams.

A stream may break at any time. What then becomes of the lease is the server's word in its Welcome:

    resumed      the Steps in flight are sent again under the same seq; a server that has already computed their answer
                 gives it from its cache. The environments notice nothing.
    not resumed, or resumed at seq 0 after more than one Steps
                 the lease is gone, and agent state with it: LeaseLost. The group starts new episodes, seq from 1.
                 While the first Steps are not yet answered nothing is lost: they are simply sent again.

Where the server chooses the indices of the environments, a new lease may come with others: IndicesChanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

import grpc.aio

from seedbed.common.codec import check_protocol, pack_steps, spec_to_message
from seedbed.common.errors import InvalidMessageError, SeedbedError, SequenceError, UnavailableError
from seedbed.common.grpc_channel import error_from_rpc
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import Array, Timesteps
from seedbed.common.unpacking import ActionsReader
from seedbed.env_client.actor import IndicesChanged, LeaseLost, RunFinished
from seedbed.env_client.connection import REPLY_TIMEOUT_S, Backoff, ServerRestarting
from seedbed.env_client.replicas import Replicas
from seedbed.proto import seedbed_pb2 as pb

_log = logging.getLogger(__name__)


class Lease:
    """Exchanges timesteps for actions, and reconnects where that helps.

    Args:
        replicas: choose where to go, together for all groups of a client.
        give_up_after_s: how long they all may be away; None: for ever.
        hello: what every stream of this lease begins with.
        specs: what its rows may be: one, or those of several tasks out of which the server chooses.
        note_connection: told (group, connected) whenever that changes.
    """

    def __init__(
        self,
        replicas: Replicas,
        give_up_after_s: float | None,
        hello: pb.ClientMessage,
        specs: Sequence[EnvironmentSpec],
        note_connection: Callable[[int, bool], None],
    ) -> None:
        self._replicas = replicas
        self._hello = hello
        self._group = hello.hello.group
        self._num_rows = len(hello.hello.environments)
        self._specs = specs
        self.task = 0
        self._reader = ActionsReader(specs[0], self._num_rows)
        self._note_connection = note_connection
        self._backoff = Backoff(give_up_after_s=give_up_after_s)
        self._stream: _Stream | None = None
        self._seq = 0  # of the last Steps of this lease; 0: none yet
        self._indices: tuple[int, ...] | None = None  # None: the server has not chosen yet
        if not hello.hello.assign_indices:
            self._indices = tuple(environment.index for environment in hello.hello.environments)

    async def connect(self) -> tuple[int, ...]:
        """Asks for the lease until it is granted. Returns the stable indices of its environments.

        Raises:
            RunFinished: the run is over.
            IndicesChanged: the other groups of this client have theirs where there is no room for this one.
            SeedbedError: a server refused for good, or all stayed away for longer than they may.
        """
        while self._stream is None:
            try:
                await self._connect()
            except SeedbedError as error:
                await self._recover(error)
        assert self._indices is not None
        return self._indices

    def exchange(self, rows: Timesteps) -> Coroutine[Any, Any, tuple[Array, ...]]:
        """Packs the rows at once, under the next seq; awaiting the result sends them and gives the actions.

        Raises (when awaited):
            LeaseLost: the server no longer knows this lease; the next exchange starts a new one.
            IndicesChanged: the same, and the new one is for other environments.
            RunFinished: the run is over.
            SeedbedError: a server refused for good, or all stayed away for longer than they may.
        """
        self._seq += 1
        return self._exchange(pack_steps(self._seq, rows))

    async def say_goodbye(self, reason: str) -> None:
        """Gives the rows back, if a stream is open, and waits until the server has ended it."""
        if self._stream is None:
            return
        with contextlib.suppress(SeedbedError):
            await self._stream.send(pb.ClientMessage(goodbye=pb.Goodbye(reason=reason)))
            while True:
                await self._stream.receive()

    def drop_stream(self) -> None:
        """Closes the stream, if there is one, without a word. The lease lives on for the server's grace time."""
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
            self._replicas.lost(self._group)
            self._note_connection(self._group, False)

    async def _exchange(self, steps: pb.ClientMessage) -> tuple[Array, ...]:
        while True:
            try:
                stream = self._stream or await self._connect()
                await stream.send(steps)
                reply = await _receive(stream, "actions")
                return self._read_actions(reply.actions)
            except SeedbedError as error:
                await self._recover(error)

    async def _recover(self, error: SeedbedError) -> None:
        self.drop_stream()
        await self._replicas.recover(self._group, self._backoff, error)

    async def _connect(self) -> _Stream:
        line = await self._replicas.line(self._group)
        stream = self._stream = _Stream(line.stub.Act(metadata=line.endpoint.metadata))
        await stream.send(self._hello)
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                reply = await _receive(stream, "welcome")
        except TimeoutError:
            raise UnavailableError(f"no Welcome within {REPLY_TIMEOUT_S:.0f} s") from None
        check_protocol(reply.welcome.protocol, "server")
        self._replicas.welcomed(self._group, reply.welcome.grace_s)
        self._note_connection(self._group, True)
        self._agree_on_task(reply.welcome)
        self._agree_on_indices(reply.welcome)
        self._agree_on_seq(reply.welcome)
        return stream

    def _agree_on_task(self, welcome: pb.Welcome) -> None:
        """Of several the one that the server has chosen; from now on it is named."""
        if len(self._specs) == 1:
            return
        tasks = set(welcome.tasks)
        if len(welcome.tasks) != self._num_rows or len(tasks) != 1 or max(tasks) >= len(self._specs):
            raise InvalidMessageError(
                f"expected one of {len(self._specs)} tasks for each of {self._num_rows} rows in Welcome, got "
                f"{list(welcome.tasks)[: self._num_rows + 1]}"
            )
        self.task = tasks.pop()
        spec = self._specs[self.task]
        self._reader = ActionsReader(spec, self._num_rows)
        self._hello.hello.spec.CopyFrom(spec_to_message(spec))
        for environment in self._hello.hello.environments:
            environment.task = spec.environment

    def _agree_on_indices(self, welcome: pb.Welcome) -> None:
        if not self._hello.hello.assign_indices:
            return
        indices = tuple(welcome.environment_indices)
        if len(indices) != self._num_rows:
            raise InvalidMessageError(f"expected {self._num_rows} environment indices in Welcome, got {len(indices)}")
        if self._indices not in (None, indices):
            _log.warning("group %d: environments %s are now %s", self._group, self._indices, indices)
            raise IndicesChanged
        self._indices = indices
        for environment, index in zip(self._hello.hello.environments, indices, strict=True):
            environment.index = index  # from now on the wish

    def _agree_on_seq(self, welcome: pb.Welcome) -> None:
        in_flight = self._seq
        # Resumed at 0: a new lease that has taken no Steps; the stream it was granted to broke before the Welcome came.
        if welcome.resumed and (welcome.last_seq > 0 or in_flight <= 1):
            if welcome.last_seq not in (in_flight - 1, in_flight):
                raise SequenceError(f"expected to resume at {in_flight - 1} or {in_flight}, got {welcome.last_seq}")
            _log.info("group %d: lease resumed at seq %d", self._group, in_flight)
        elif in_flight > 1:
            self._seq = 0
            _log.warning("group %d: lease lost at seq %d, starting new episodes", self._group, in_flight)
            raise LeaseLost

    def _read_actions(self, message: pb.Actions) -> tuple[Array, ...]:
        if message.seq != self._seq:
            raise InvalidMessageError(f"expected actions for seq {self._seq}, got seq {message.seq}")
        self._backoff.reset()
        return self._reader.read(message)


class _Stream:
    """One Act call with a read always under way.

    gRPC throws away what has arrived but was not asked for as soon as a write fails, and a write fails when the server
    has ended the stream: the Drain or the status that says why would be lost.
    """

    def __init__(self, call: grpc.aio.StreamStreamCall[pb.ClientMessage, pb.ServerMessage]) -> None:
        self._call = call
        self._reading = self._start_reading()
        self._write_lock = asyncio.Lock()

    async def send(self, message: pb.ClientMessage) -> None:
        """Writes a message; being cancelled meanwhile does not hurt the stream.

        If the stream is broken nothing is raised: `receive` will say why it is.
        """
        await asyncio.shield(self._write(message))

    async def receive(self) -> pb.ServerMessage:
        """Waits for the next message; being cancelled meanwhile does not hurt the stream.

        Raises:
            SeedbedError: the stream has ended, and why.
        """
        try:
            message = await asyncio.shield(self._reading)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from None
        if not isinstance(message, pb.ServerMessage):
            raise UnavailableError("the server ended the stream")
        self._reading = self._start_reading()
        return message

    def cancel(self) -> None:
        """Ends the call at once."""
        self._call.cancel()

    async def _write(self, message: pb.ClientMessage) -> None:
        async with self._write_lock:  # a cancelled sender's write may still be under way; gRPC takes one at a time
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._call.write(message)

    def _start_reading(self) -> asyncio.Task[Any]:
        reading = asyncio.get_running_loop().create_task(self._call.read())
        # The last read of a stream fails, and nobody may be waiting for it: that is no defect to be logged.
        reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        return reading


async def _receive(stream: _Stream, kind: Literal["welcome", "actions"]) -> pb.ServerMessage:
    """Waits for a message of one kind.

    Raises:
        RunFinished, ServerRestarting: the server drains.
        InvalidMessageError: it sent something else.
        SeedbedError: the stream has ended.
    """
    message = await stream.receive()
    got = message.WhichOneof("body")
    if got == "drain":
        if message.drain.reason == pb.Drain.REASON_FINISHED:
            raise RunFinished
        raise ServerRestarting(message.drain.retry_after_ms / 1000)
    if got != kind:
        raise InvalidMessageError(f"expected {kind} from the server, got {got}")
    return message
