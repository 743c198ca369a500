"""How a client reaches its server: channel options, back-off, and what a broken call means.

Constants are chosen for a fleet of thousands of clients that must all be back within seconds of a server's return, and
must not knock it over when they come.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import grpc
import grpc.aio

from seedbed.common.codec import check_protocol, spec_from_message
from seedbed.common.errors import ERROR_NAME_KEY, SeedbedError, UnavailableError, error_from_status
from seedbed.common.specs import EnvironmentSpec
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub

_log = logging.getLogger(__name__)

REPLY_TIMEOUT_S = 10.0
"""For Describe and for Welcome: both cost the server nothing."""

_MESSAGE_ALLOWANCE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the server is, and how to be let in.

    Attributes:
        target: "HOST:PORT".
        credentials: for TLS; None: no encryption.
        metadata: goes with every call, e.g. a token.
        give_up_after_s: how long the server may be away; None: for ever.
    """

    target: str
    credentials: grpc.ChannelCredentials | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    give_up_after_s: float | None = None

    def open_channel(self, max_reply_bytes: int = 0) -> grpc.aio.Channel:
        """A channel whose options are all set on purpose.

        Args:
            max_reply_bytes: of the largest array data in one reply.
        """
        options: Sequence[tuple[str, int]] = (
            ("grpc.max_receive_message_length", max_reply_bytes * 5 // 4 + _MESSAGE_ALLOWANCE_BYTES),
            # A dead peer is noticed within 15 s. gRPC's own defaults (no pings) would never notice one.
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.http2.ping_timeout_ms", 5_000),  # what acts; the option above is never armed in gRPC's core
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            # The slow back-off is ours (below). The channel's only has to be quicker, so that they do not add up.
            ("grpc.initial_reconnect_backoff_ms", 250),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.min_reconnect_backoff_ms", 5_000),  # in truth the time-out of one attempt to connect
            # Channels of one process would share a connection, and with it a frontend: a load test has many.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),  # an http_proxy variable meant for browsers must not reroute us
        )
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, options=options)
        return grpc.aio.secure_channel(self.target, self.credentials, options=options)


@dataclass(slots=True, kw_only=True)
class Backoff:
    """Full jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015): a random wait below a limit that doubles.

    Attributes:
        initial_s, max_s: the first and the last limit.
        give_up_after_s: how long an outage may last; None: for ever.
    """

    initial_s: float = 0.25
    max_s: float = 10.0
    give_up_after_s: float | None = None
    _attempt: int = 0
    _outage_began_s: float | None = None
    _random: random.Random = field(default_factory=random.Random)

    def next_wait_s(self, error: SeedbedError, now_s: float) -> float:
        """How long to wait before the next attempt.

        Args:
            error: why the last one failed.
            now_s: a monotonic time.

        Raises:
            SeedbedError: `error` itself, when it is not worth a retry.
            UnavailableError: the outage has lasted too long.
        """
        if not error.retryable:
            raise error
        self._outage_began_s = now_s if self._outage_began_s is None else self._outage_began_s
        if self.give_up_after_s is not None and now_s - self._outage_began_s >= self.give_up_after_s:
            raise UnavailableError(f"gave up after {now_s - self._outage_began_s:.0f} s: {error}") from error
        limit_s = min(self.initial_s * 2.0 ** min(self._attempt, 30), self.max_s)
        self._attempt += 1
        return self._random.uniform(0, limit_s)

    def reset(self) -> None:
        """The server answered: the next outage starts from the shortest wait."""
        self._attempt = 0
        self._outage_began_s = None


class ServerRestarting(UnavailableError):
    """The server asked its clients to leave and come back.

    Args:
        retry_after_s: not sooner than this.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the server restarts")
        self.retry_after_s = retry_after_s


async def wait_out(backoff: Backoff, error: SeedbedError, what: str) -> None:
    """Logs a failed attempt and sleeps before the next one.

    Args:
        backoff: decides how long; what a restarting server asked for comes on top.
        error: why it failed.
        what: was attempted, for the log.

    Raises:
        SeedbedError: see `Backoff.next_wait_s`.
    """
    at_least_s = error.retry_after_s if isinstance(error, ServerRestarting) else 0.0
    wait_s = at_least_s + backoff.next_wait_s(error, time.monotonic())
    _log.warning("%s: %s; next attempt in %.2f s", what, error, wait_s)
    await asyncio.sleep(wait_s)


def error_from_rpc(error: grpc.aio.AioRpcError) -> SeedbedError:
    """The class that the server named in the trailing metadata, or else the one that fits the status."""
    trailing = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    name = next((str(value) for key, value in trailing if key == ERROR_NAME_KEY), None)
    return error_from_status(error.code().name, error.details() or "", name)


async def describe_server(endpoint: Endpoint) -> EnvironmentSpec:
    """Asks a server what it serves, for as long as the endpoint allows.

    Raises:
        VersionError: it speaks another protocol.
        SeedbedError: it refused, or stayed away too long.
    """
    backoff = Backoff(give_up_after_s=endpoint.give_up_after_s)
    async with endpoint.open_channel() as channel:
        stub = SeedbedStub(channel)
        while True:
            try:
                reply = await stub.Describe(pb.DescribeRequest(), timeout=REPLY_TIMEOUT_S, metadata=endpoint.metadata)
            except grpc.aio.AioRpcError as error:
                await wait_out(backoff, error_from_rpc(error), f"asking {endpoint.target} what it serves")
                continue
            check_protocol(reply.protocol, "server")
            return spec_from_message(reply.spec)
