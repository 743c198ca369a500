"""A small server for the tests of the client, written from the .proto alone.

It answers with echo actions, so a misplaced or stale answer is an arithmetic fact.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np

from seedbed.common.codec import pack_actions, protocol_version, spec_from_message
from seedbed.common.echo import echo_actions, echo_decode
from seedbed.common.errors import ERROR_NAME_KEY
from seedbed.common.timestep import StepType
from seedbed.common.unpacking import StepsReader
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedServicer, add_SeedbedServicer_to_server

Step = Callable[["EchoServer", pb.Steps, Any], Any]


class EchoServer(SeedbedServicer):
    """Answers with echo actions, remembers leases as the protocol demands, and misbehaves on request.

    Attributes:
        tape: what happened, in order: ("hello", group, resumed), ("steps", group, seq), ("goodbye", group, reason).
        faults: what to do with the n-th Steps (from 0) instead of answering it.
        refuse: what to do with the n-th Hello instead of welcoming it.
        granted: environment indices of each lease; those that the client left to the server are its wishes + `offset`.
        num_steps: Steps so far.
        specs: what Describe answers; nothing to the first `knows_after` that ask.
        task: which of the specs it says that rows are; `named` is what the newest Hello named.
        told: how many of them Welcome names; None: all, as it should.
        free_rows: what Status says; asked `num_statuses` times.
        grace_s: what Welcome says.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.tape: list[tuple[Any, ...]] = []
        self.faults: dict[int, Step] = {}
        self.refuse: dict[int, Callable[[Any], Any]] = {}
        self.leases: dict[tuple[str, int, int], tuple[int, bytes]] = {}
        self.granted: dict[tuple[str, int, int], list[int]] = {}
        self.offset = 0
        self.told: int | None = None
        self.task = 0
        self.named: list[str] = []
        self.run_ids: set[int] = set()
        self.protocol = protocol_version()
        self.specs: list[pb.EnvironmentSpec] = []
        self.knows_after = self.num_asked = 0
        self.metadata: list[Any] = []
        self.peers: set[str] = set()
        self.check = True  # False: rows are not echoes
        self.num_steps = 0
        self._num_hellos = 0
        self.port = port
        self.host = host
        self.free_rows, self.num_statuses, self.grace_s = 64, 0, 60.0
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_SeedbedServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"{self.host}:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        assert self._server is not None
        await self._server.stop(None)

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        self.num_asked += 1
        specs = [] if self.num_asked <= self.knows_after else self.specs
        return pb.DescribeResponse(protocol=self.protocol, specs=specs)

    async def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:
        self.num_statuses += 1
        return pb.StatusResponse(gauges={"num_slots": 100, "used_rows": 100 - self.free_rows})

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"

    async def Act(self, request_iterator: AsyncIterator[pb.ClientMessage], context: Any) -> None:
        self.metadata.append(context.invocation_metadata())
        self.peers.add(context.peer())
        hello = (await context.read()).hello
        number, self._num_hellos = self._num_hellos, self._num_hellos + 1
        if number in self.refuse:
            await self.refuse[number](context)
            return
        key = (hello.client_id, hello.run_id, hello.group)
        self.run_ids.add(hello.run_id)
        resumed = key in self.leases
        last_seq, _ = self.leases.setdefault(key, (0, b""))
        self.tape.append(("hello", hello.group, resumed))
        self.named = [environment.task for environment in hello.environments]
        named = [environment.index for environment in hello.environments]
        indices = [self.offset + index for index in named] if hello.assign_indices else named
        if resumed:
            indices = self.granted[key]
        self.granted[key] = indices
        welcome = pb.Welcome(
            protocol=self.protocol,
            resumed=resumed,
            last_seq=last_seq,
            grace_s=self.grace_s,
            environment_indices=indices[: self.told],
            tasks=[self.task] * len(indices),
        )
        await context.write(pb.ServerMessage(welcome=welcome))
        async for message in request_iterator:
            if message.WhichOneof("body") == "goodbye":
                self.tape.append(("goodbye", hello.group, message.goodbye.reason))
                return
            await self._answer(message.steps, hello, key, context)

    async def _answer(self, steps: pb.Steps, hello: pb.Hello, key: tuple[str, int, int], context: Any) -> None:
        self.tape.append(("steps", hello.group, steps.seq))
        last_seq, cached = self.leases[key]
        assert steps.seq in (last_seq, last_seq + 1)
        if steps.seq == last_seq + 1:
            spec = spec_from_message(hello.spec)
            rows = StepsReader(spec, len(hello.environments)).read(steps)
            assert steps.seq > 1 or (rows.step_type == StepType.FIRST).all()
            if self.check:
                index, _, _ = echo_decode(rows.observations[0])
                assert index.tolist() == self.granted[key]
            actions = echo_actions(spec.actions, rows.observations[0] if self.check else np.zeros((rows.num_rows, 3)))
            cached = pack_actions(steps.seq, actions, 0).SerializeToString()
            self.leases[key] = (steps.seq, cached)
        number, self.num_steps = self.num_steps, self.num_steps + 1
        if number in self.faults:
            await self.faults[number](self, steps, context)
            return
        await context.write(pb.ServerMessage.FromString(cached))


async def break_stream(server: EchoServer, steps: pb.Steps, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")


async def forget_and_break(server: EchoServer, steps: pb.Steps, context: Any) -> None:
    server.leases.clear()
    await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")


async def forget_seq_and_break(server: EchoServer, steps: pb.Steps, context: Any) -> None:
    """As if the message had been lost on its way."""
    server.leases = {key: (steps.seq - 1, b"") for key in server.leases}
    await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")


def drain(reason: pb.Drain.Reason, retry_after_ms: int = 0) -> Step:
    async def fault(server: EchoServer, steps: pb.Steps, context: Any) -> None:
        await context.write(pb.ServerMessage(drain=pb.Drain(reason=reason, retry_after_ms=retry_after_ms)))

    return fault


def refusal(code: grpc.StatusCode, text: str, name: str | None = None) -> Callable[[Any], Any]:
    async def refuse(context: Any) -> None:
        await context.abort(code, text, ((ERROR_NAME_KEY, name),) if name else ())

    return refuse
