"""One gRPC process of the server: streams on one side, slots on the other. Knows no torch and no policy.

For each Steps it checks the message against the contract, copies the rows into the slot table and sends the lease's id
to the device process; for each id that comes back it sends the actions that stand in the rows. Whatever a client does
wrong ends its own stream with a status that says why, and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from dataclasses import dataclass, field
from typing import Any

from seedbed.common import codec
from seedbed.common.address import is_loopback
from seedbed.common.errors import (
    CapacityError,
    FencedError,
    InvalidMessageError,
    PipeliningError,
    SeedbedError,
    SequenceError,
    UnavailableError,
    named_error,
)
from seedbed.common.unpacking import StepsReader
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto import seedbed_pb2_grpc
from seedbed.server.frontend.admission import FrontendConfig, check_first, check_hello
from seedbed.server.frontend.outbox import Outbox
from seedbed.server.frontend.rpc import abort, first_done, host_of, read_hello, read_message, text_of
from seedbed.server.frontend.status import status_message
from seedbed.server.shared.fleet import Fleet
from seedbed.server.shared.id_channel import Control, IdChannel
from seedbed.server.shared.slots import SlotTable
from seedbed.server.shared.vitals import VitalsTable

logger = logging.getLogger(__name__)

_SPARE_STREAMS = 64

_DEFECTS = (InvalidMessageError, PipeliningError, SequenceError)
"""Errors after which a client's lease, if it has one, ends at once. A broken connection leaves it in grace."""


@dataclass(slots=True, eq=False)
class _Stream:
    """One live Act call."""

    number: int
    granted: asyncio.Future[Control]
    wake: asyncio.Future[None]  # what the writer waits for
    lease: int = -1
    num_rows: int = 0
    reader: StepsReader = field(init=False)  # from the grant on
    in_flight_seq: int = 0  # 0: no Steps waits for its answer
    read_s: float = 0.0  # when that Steps was read
    error: SeedbedError | None = None
    drain: pb.ServerMessage | None = None

    def notify(self) -> None:
        """Wakes the writer: there is an answer, an error or a drain."""
        if not self.wake.done():
            self.wake.set_result(None)


class Frontend(seedbed_pb2_grpc.SeedbedServicer):
    """The service, and this end of the channel to the device process."""

    def __init__(self, config: FrontendConfig, slots: SlotTable, vitals: VitalsTable, channel: IdChannel) -> None:
        self.config = config
        self._slots = slots
        self._all_vitals = vitals
        self._vitals = vitals.frontends[config.number]
        self._vitals["pid"], self._vitals["started_s"] = os.getpid(), time.monotonic()
        self._vitals["streams"] = 0
        self._channel = channel
        self._received_row_bytes = sum(spec.row_bytes for spec in config.spec.observations)
        self._sent_row_bytes = sum(spec.row_bytes for spec in config.spec.actions)
        self._most_streams = _SPARE_STREAMS + 2 * config.num_slots  # each holds a row, or waits for one that is let go
        self._numbers = itertools.count()
        self._streams: dict[int, _Stream] = {}
        self._fleet: Fleet | None = None
        self._by_lease: dict[int, _Stream] = {}
        self._loop = asyncio.get_running_loop()
        self.stopped: asyncio.Future[Control] = self._loop.create_future()
        self._loop.add_reader(channel, self._on_channel)
        self._outbox = Outbox(channel, self._lose_device_process)

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        """Answers what this server serves."""
        return pb.DescribeResponse(
            protocol=codec.protocol_version(),
            specs=[codec.spec_to_message(spec) for spec in self.config.served],
            run_name=self.config.run_name,
            server_version=self.config.server_version,
        )

    async def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:
        """Answers how this server is doing; who asks for the clients looks at them.

        Names are told within this machine alone: who knows a client's name may take its place.
        """
        sight = self.config.sight
        if not request.clients or sight is None:
            return status_message(self.config, self._all_vitals)
        sight.look.take()
        if self._fleet is None:
            self._fleet = Fleet(sight.table, self._slots)
        self._fleet.read()
        rows = self._fleet.rows()
        if not is_loopback(host_of(context.peer())):
            rows = [{**row, "client": ""} for row in rows]
        return status_message(self.config, self._all_vitals, rows)

    async def Act(self, _: Any, context: Any) -> None:
        """One stream: agree, then read and answer until either side leaves."""
        if len(self._streams) >= self._most_streams:
            error = CapacityError(
                f"expected fewer than {self._most_streams} streams, so many are open: come back later"
            )
            self._vitals.refuse(error)
            await abort(context, error)
        stream = _Stream(next(self._numbers), self._loop.create_future(), self._loop.create_future())
        self._streams[stream.number] = stream
        self._vitals["streams"] = len(self._streams)
        try:
            await self._agree(stream, context)
            await first_done(self._read(stream, context), self._write(stream, context))
        except SeedbedError as error:
            self._vitals.refuse(error)
            logger.info("stream of %s ended: %s", context.peer(), text_of(error))
            if isinstance(error, _DEFECTS):  # it would only come back with the same; nobody waits for that
                self._outbox.send({"type": "goodbye", "stream": stream.number})
            await abort(context, error)
        finally:
            self._leave(stream)

    async def _agree(self, stream: _Stream, context: Any) -> None:
        """Hello -> lease -> Welcome."""
        hello = await read_hello(context)
        tasks = check_hello(hello, self.config)
        self._outbox.send(
            {
                "type": "open",
                "stream": stream.number,
                "client_id": hello.client_id,
                "run_id": hello.run_id,
                "group": hello.group,
                "environment_indices": [environment.index for environment in hello.environments],
                "assign_indices": hello.assign_indices,
                "tasks": tasks,
                "host": host_of(context.peer()),
            }
        )
        grant = await stream.granted
        stream.lease, stream.num_rows = grant["lease"], len(hello.environments)
        stream.reader = StepsReader(self.config.spec, stream.num_rows)
        self._by_lease[stream.lease] = stream
        self._vitals.add("streams_opened")
        welcome = pb.Welcome(
            protocol=codec.protocol_version(),
            resumed=grant["resumed"],
            last_seq=int(self._slots.accepted_seq[stream.lease]),
            grace_s=self.config.grace_s,
            run_name=self.config.run_name,
            server_version=self.config.server_version,
            environment_indices=grant["environment_indices"],
            tasks=grant["tasks"],
        )
        await context.write(pb.ServerMessage(welcome=welcome))

    async def _read(self, stream: _Stream, context: Any) -> None:
        while True:
            message = await read_message(context)
            if message is None:
                return
            match message.WhichOneof("body"):
                case "steps":
                    self._accept(stream, message.steps)
                case "goodbye":
                    self._outbox.send({"type": "goodbye", "stream": stream.number})
                    return
                case other:
                    raise InvalidMessageError(f"expected Steps or Goodbye, got {other}")

    async def _write(self, stream: _Stream, context: Any) -> None:
        while True:
            await stream.wake
            stream.wake = self._loop.create_future()
            if stream.error is not None:
                raise stream.error
            if stream.drain is not None:
                await context.write(stream.drain)
                stream.drain = None
                continue
            await context.write(self._answer(stream))

    def _accept(self, stream: _Stream, steps: pb.Steps) -> None:
        """Checks one Steps, copies it into the slots and tells the device process."""
        if stream.in_flight_seq:
            raise PipeliningError(f"expected to answer Steps {stream.in_flight_seq} before another, got {steps.seq}")
        stream.read_s = time.monotonic()
        lease, slots = stream.lease, self._slots
        accepted = int(slots.accepted_seq[lease])
        stream.in_flight_seq = steps.seq
        if steps.seq == accepted and accepted > 0:  # sent again after a lost stream
            self._on_answer(stream)
            return
        if steps.seq != accepted + 1:
            raise SequenceError(f"expected Steps {accepted + 1}, or {accepted} again, got {steps.seq}")
        rows = stream.reader.read(steps)
        check_first(steps.step_type, slots.expects_first(lease, stream.num_rows))
        if rows.episode_ends:
            ends = [
                [end.row, end.episode_return, end.steps, end.frames, end.truncated, dict(end.info)]
                for end in rows.episode_ends
            ]
            self._outbox.send({"type": "episode_ends", "lease": lease, "seq": steps.seq, "ends": ends})
        slots.accept(lease, stream.num_rows, steps.seq, rows)
        self._outbox.announce(lease)
        self._vitals.add("messages")
        self._vitals.add("rows", stream.num_rows)
        self._vitals.add("received_bytes", stream.num_rows * self._received_row_bytes)
        self._vitals.observe("accept", time.monotonic() - stream.read_s)

    def _on_answer(self, stream: _Stream) -> None:
        """Wakes the writer if the Steps in flight has its actions."""
        if stream.in_flight_seq and self._slots.answered_seq[stream.lease] == stream.in_flight_seq:
            stream.notify()

    def _answer(self, stream: _Stream) -> pb.ServerMessage:
        where = slice(stream.lease, stream.lease + stream.num_rows)
        seq, stream.in_flight_seq = stream.in_flight_seq, 0
        actions = [table[where] for table in self._slots.actions]
        now_s = time.monotonic()
        self._vitals.observe("reply", now_s - self._slots.answered_s.item(stream.lease))
        self._vitals.observe("residence", now_s - stream.read_s)
        self._vitals.add("sent_bytes", stream.num_rows * self._sent_row_bytes)
        return codec.pack_actions(seq, actions, int(self._slots.policy_version[stream.lease]))

    def _leave(self, stream: _Stream) -> None:
        """The stream has written its last row; from here on another one may take the lease over."""
        del self._streams[stream.number]
        self._vitals["streams"] = len(self._streams)
        if self._by_lease.get(stream.lease) is stream:
            del self._by_lease[stream.lease]
        self._outbox.send({"type": "detach", "stream": stream.number})

    def _on_channel(self) -> None:
        try:
            messages = self._channel.receive()
        except EOFError:
            self._lose_device_process()
            return
        for message in messages:
            if isinstance(message, int):
                if stream := self._by_lease.get(message):
                    self._on_answer(stream)
            else:
                self._on_control(message)

    def _on_control(self, message: Control) -> None:
        if message["type"] == "stop":
            if not self.stopped.done():
                self.stopped.set_result(message)
            return
        stream = self._streams.get(message["stream"])
        if stream is None:  # it left while the message was under way; its "detach" tells the other side
            return
        if message["type"] != "fence" and stream.granted.done():  # it is about to leave: cancelled, or drained
            return
        match message["type"]:
            case "granted":
                stream.granted.set_result(message)
            case "refused":
                stream.granted.set_exception(named_error(message["error"], message["details"]))
            case "fence":
                stream.error = FencedError(message["details"])
                stream.notify()
                if not stream.granted.done():
                    stream.granted.set_exception(stream.error)

    def _lose_device_process(self) -> None:
        self._loop.remove_reader(self._channel)
        self._outbox.close()
        if not self.stopped.done():
            self.stopped.set_result({"reason": "restarting", "retry_after_ms": 1000, "grace_s": 0.5})

    def drain(self, reason: str, retry_after_ms: int) -> None:
        """Asks every client to leave; streams without a lease yet are refused."""
        code = pb.Drain.REASON_FINISHED if reason == "finished" else pb.Drain.REASON_RESTARTING
        message = pb.ServerMessage(drain=pb.Drain(reason=code, retry_after_ms=retry_after_ms))
        for stream in self._streams.values():
            if not stream.granted.done():
                stream.granted.set_exception(UnavailableError("the server is draining"))
            stream.drain = message
            stream.notify()
