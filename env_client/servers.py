"""Servers of a run: where they are, how a client is let in, and what they serve."""

from __future__ import annotations

import random

import grpc.aio

from seedbed.common.address import Address
from seedbed.common.codec import check_protocol, described_specs
from seedbed.common.credentials import ClientCredentials
from seedbed.common.errors import SeedbedError
from seedbed.common.grpc_channel import error_from_rpc
from seedbed.common.server_list import Server, ServerList
from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.connection import REPLY_TIMEOUT_S, Backoff, Complaints, Endpoint, Line, wait_out
from seedbed.proto import seedbed_pb2 as pb


class Servers:
    """Where the replicas of a run are, and how to be let in.

    Args:
        target: see `ServerList`.
        credentials: TLS and token.
        give_up_after_s: how long they all may be away; None: for ever.

    Attributes:
        names: the target, read.
        give_up_after_s: the same.

    Raises:
        UsageError: the target is none, or a token would be sent to it unencrypted.
        AuthError: there should be a token, but it cannot be read.
    """

    def __init__(
        self, target: str, credentials: ClientCredentials | None = None, give_up_after_s: float | None = None
    ) -> None:
        self.names = ServerList.parse(target)
        self.give_up_after_s = give_up_after_s
        self._credentials = credentials or ClientCredentials()
        self._endpoints: dict[Address, Endpoint] = {}
        for name in self.names.names:  # tokens, and what they may be shown to, are checked before anything starts
            self._endpoint(Server(name.address, name.address.host if name.every else None))

    async def endpoints(self) -> list[Endpoint]:
        """Of all that are there now.

        Raises:
            UnavailableError: no name could be looked up.
        """
        if self.names.only is not None:
            return [self._endpoint(Server(self.names.only))]
        return [self._endpoint(server) for server in await self.names.servers()]

    def _endpoint(self, server: Server) -> Endpoint:
        """The same each time: it keeps an eye on the files of its credentials."""
        if server.address not in self._endpoints:
            self._endpoints[server.address] = Endpoint(
                target=str(server.address),
                credentials=server.credentials(self._credentials),
                give_up_after_s=self.give_up_after_s,
            )
        return self._endpoints[server.address]

    def __str__(self) -> str:
        return str(self.names)


async def describe_servers(servers: Servers, *, must_know: bool = True) -> tuple[EnvironmentSpec, ...]:
    """Asks what they serve, one after the other until one answers, for as long as `servers` allows.

    Args:
        servers: replicas of one run.
        must_know: ask again while there is no environment yet; else the answer is empty.

    Returns:
        A spec for each task.

    Raises:
        VersionError: it speaks another protocol.
        SeedbedError: it refused, or all stayed away too long, or had no environment for too long.
    """
    backoff, complaints = Backoff(give_up_after_s=servers.give_up_after_s), Complaints()
    while True:
        endpoint, failed = None, None
        try:
            endpoints = await servers.endpoints()
            for endpoint in random.sample(endpoints, len(endpoints)):
                try:
                    return await _describe(endpoint, must_know)
                except SeedbedError as error:
                    if not error.retryable:
                        raise
                    failed = error
        except SeedbedError as error:
            failed = error
        assert failed is not None
        where = str(servers) if endpoint is None else endpoint.target
        await wait_out(backoff, failed, endpoint, complaints, where)


async def _describe(endpoint: Endpoint, must_know: bool) -> tuple[EnvironmentSpec, ...]:
    line = Line(endpoint)
    try:
        reply = await line.stub.Describe(pb.DescribeRequest(), timeout=REPLY_TIMEOUT_S, metadata=endpoint.metadata)
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from None
    finally:
        await line.close()
    check_protocol(reply.protocol, "server")
    return described_specs(reply) if reply.specs or must_know else ()
