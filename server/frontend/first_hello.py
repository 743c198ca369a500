"""The process that holds a server's port until the first client has said what its environment looks like.

It answers Describe with no spec, and takes one Hello. Then it tells its clients to come back, and ends: the server that
they come back to serves that environment.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from multiprocessing.connection import Connection
from typing import Any

from seedbed.common import codec
from seedbed.common.errors import InvalidMessageError, SeedbedError, UnavailableError
from seedbed.common.logs import setup_logging
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.stop_signals import ignore_stop
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto import seedbed_pb2_grpc
from seedbed.server.frontend.admission import MAX_SPEC_BYTES, FrontendConfig, check_hello
from seedbed.server.frontend.process import listen, make_server
from seedbed.server.frontend.rpc import abort, read_hello, text_of

logger = logging.getLogger(__name__)

_MAX_HELLO_BYTES = 4 << 20  # of tens of thousands of environments
_RETRY_AFTER_MS = 1000
_LEAVING_S = 1.0
_ROWS_KEPT = 100
"""Rows of each environment that slots, open unrolls and the learner's queue hold at least, roughly."""


def run_first_hello(config: FrontendConfig, free_bytes: int, found: Connection) -> None:
    """Main function of the process; sends the spec as JSON and returns.

    Args:
        config: `spec` says nothing yet, `num_slots` is the largest lease.
        free_bytes: what the server may use for rows.
        found: gets the spec.
    """
    ignore_stop(but=[signal.SIGTERM])  # the server decides when to stop
    setup_logging("first hello")
    found.send(json.dumps(asyncio.run(_wait(config, free_bytes)).to_json()))


async def _wait(config: FrontendConfig, free_bytes: int) -> EnvironmentSpec:
    server = make_server(config.credentials, _MAX_HELLO_BYTES)
    service = FirstHello(config, free_bytes)
    seedbed_pb2_grpc.add_SeedbedServicer_to_server(service, server)
    listen(server, config.address, config.credentials)
    await server.start()
    spec = await service.found
    await server.stop(_LEAVING_S)
    return spec


class FirstHello(seedbed_pb2_grpc.SeedbedServicer):
    """The service without an environment.

    Attributes:
        found: the spec of the first client that may take part.
    """

    def __init__(self, config: FrontendConfig, free_bytes: int) -> None:
        self._config = config
        self._free_bytes = free_bytes
        self.found: asyncio.Future[EnvironmentSpec] = asyncio.get_running_loop().create_future()

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        """Answers that there is no environment yet."""
        return pb.DescribeResponse(
            protocol=codec.protocol_version(),
            run_name=self._config.run_name,
            server_version=self._config.server_version,
        )

    async def Status(self, request: pb.StatusRequest, context: Any) -> None:
        """Nothing has happened that could be told."""
        await abort(context, UnavailableError("the server has no environment yet"))

    async def Act(self, _: Any, context: Any) -> None:
        """A Hello, and the answer that the server restarts."""
        try:
            spec = await self._read_spec(context)
        except SeedbedError as error:
            logger.info("stream of %s ended: %s", context.peer(), text_of(error))
            await abort(context, error)
        await context.write(
            pb.ServerMessage(drain=pb.Drain(reason=pb.Drain.REASON_RESTARTING, retry_after_ms=_RETRY_AFTER_MS))
        )
        if not self.found.done():
            self.found.set_result(spec)

    async def _read_spec(self, context: Any) -> EnvironmentSpec:
        """The spec of a Hello that the server could serve.

        Raises:
            SeedbedError: it is none.
        """
        hello = await read_hello(context)
        codec.check_protocol(hello.protocol, "client")
        if (size := hello.spec.ByteSize()) > MAX_SPEC_BYTES:
            raise InvalidMessageError(f"Hello: expected a spec of at most {MAX_SPEC_BYTES} bytes, got {size}")
        spec = codec.spec_from_message(hello.spec)
        check_hello(hello, self._config.serving(spec))
        needed = _ROWS_KEPT * len(hello.environments) * sum(array.row_bytes for array in spec.observations)
        if needed > self._free_bytes:
            raise InvalidMessageError(
                f"Hello: expected environments whose rows fit into {self._free_bytes} free bytes, {_ROWS_KEPT} rows of "
                f"each take {needed}"
            )
        return spec
