"""Asks a server how it is doing."""

from __future__ import annotations

from typing import Any

import grpc.aio

from seedbed.common.server_status import ServerStatus, status_from_message
from seedbed.env_client.connection import REPLY_TIMEOUT_S, Endpoint, error_from_rpc, explained
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub


class StatusReader:
    """Asks a server how it is doing, over one connection; use it as an asynchronous context."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._channel: Any = None

    async def read(self) -> ServerStatus | None:
        """How the server is doing; None if it is too old to say (protocol 1.0).

        Raises:
            SeedbedError: it is away.
        """
        stub = SeedbedStub(self._channel)
        try:
            reply = await stub.Status(pb.StatusRequest(), timeout=REPLY_TIMEOUT_S, metadata=self._endpoint.metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise await explained(error_from_rpc(error), self._endpoint) from None
        return status_from_message(reply)

    async def __aenter__(self) -> StatusReader:
        self._channel = self._endpoint.open_channel()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close(grace=None)
