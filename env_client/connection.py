"""How a client reaches one server: channels, back-off, and what a broken call means.

Constants are chosen for a fleet of thousands of clients that must all be back within seconds of a server's return, and
must not knock it over when they come.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from dataclasses import dataclass, field

import grpc.aio

from seedbed.common.address import Address
from seedbed.common.credentials import ClientCredentials, Reloaded, Tokens, watch_tokens
from seedbed.common.diagnosis import find_fault
from seedbed.common.errors import SeedbedError, UnavailableError
from seedbed.common.grpc_channel import ChannelOptions, error_from_rpc, open_channel
from seedbed.common.server_status import ServerStatus, status_from_message
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub

_log = logging.getLogger(__name__)

REPLY_TIMEOUT_S = 10.0
"""For Describe and for Welcome: both cost the server nothing."""

_MESSAGE_ALLOWANCE_BYTES = 64 * 1024
_MAX_MESSAGE_BYTES = 2**31 - 1  # what gRPC's option, a C int, can hold
_MAX_TEXT = 100  # of a line that may come every few seconds
_NOT_CONNECTED = "failed to connect"  # gRPC's words where not even a connection came about
_TOLD_AGAIN_S, _TOLD_AGAIN_MAX_S = 10.0, 300.0  # spans between lines of one outage, which double
_SAME_OUTAGE_S = 30.0  # attempts are closer together, whatever they wait for


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the server is, and how to be let in.

    Attributes:
        target: "HOST:PORT".
        credentials: TLS and token.
        give_up_after_s: how long the server may be away; None: for ever.

    Raises:
        UsageError: the target is none, or a token would be sent to it unencrypted.
        AuthError: there should be a token, but it cannot be read.
    """

    target: str
    credentials: ClientCredentials = field(default_factory=ClientCredentials)
    give_up_after_s: float | None = None
    address: Address = field(init=False)
    _tokens: Reloaded[Tokens] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", Address.parse(self.target))
        object.__setattr__(self, "_tokens", watch_tokens(self.credentials.token_file))
        self.credentials.check(self.address, self._tokens.get().values)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Goes with every call: the token, as its file holds it now."""
        return self._tokens.get().metadata

    def open_channel(self, max_reply_bytes: int = 0) -> grpc.aio.Channel:
        """A channel whose options are all set on purpose.

        Args:
            max_reply_bytes: of the largest array data in one reply.

        Raises:
            AuthError: a certificate or key cannot be used.
        """
        options: ChannelOptions = (
            (
                "grpc.max_receive_message_length",
                min(max_reply_bytes * 5 // 4 + _MESSAGE_ALLOWANCE_BYTES, _MAX_MESSAGE_BYTES),
            ),
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
            # A server that has moved: its name may be looked up again this soon after the last time. gRPC's own: 30 s.
            ("grpc.dns_min_time_between_resolutions_ms", 5_000),
            # Channels of one process would share a connection, and with it a frontend: a load test has many.
            ("grpc.use_local_subchannel_pool", 1),
        )
        return open_channel(self.address, self.credentials, options)


class Line:
    """The way to a server: a channel, and another one when the files of its certificates have changed.

    A channel goes on with what it read first, and gRPC has no way to tell it of more. Streams on the old one live on.

    Args:
        endpoint: where it leads.
        max_reply_bytes: see `Endpoint.open_channel`.

    Attributes:
        endpoint: the same.
    """

    def __init__(self, endpoint: Endpoint, max_reply_bytes: int = 0) -> None:
        self.endpoint = endpoint
        self._max_reply_bytes = max_reply_bytes
        self._channels: list[grpc.aio.Channel] = []
        self._stub = Reloaded(endpoint.credentials.files, self._open)

    @property
    def stub(self) -> SeedbedStub:
        """The service, for the next call."""
        return self._stub.get()

    async def read_status(self, timeout_s: float = REPLY_TIMEOUT_S) -> ServerStatus | None:
        """How the server is doing; None if it is too old to say.

        Raises:
            SeedbedError: it is away, or refused.
        """
        try:
            reply = await self.stub.Status(pb.StatusRequest(), timeout=timeout_s, metadata=self.endpoint.metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise error_from_rpc(error) from None
        return status_from_message(reply)

    async def close(self) -> None:
        """Ends all calls at once."""
        for channel in self._channels:
            await channel.close(grace=None)

    def _open(self) -> SeedbedStub:
        self._channels.append(self.endpoint.open_channel(self._max_reply_bytes))
        return SeedbedStub(self._channels[-1])


@dataclass(slots=True, kw_only=True)
class Backoff:
    """Full jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015): a random wait below a limit that doubles.

    Attributes:
        initial_s, max_s: the first and the last limit.
        give_up_after_s: how long an outage may last; None: for ever.
    """

    initial_s: float = 0.25
    max_s: float = 5.0
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


class Complaints:
    """Says why attempts fail: at once, then ever more rarely while they fail alike, for all groups together."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, float]] = {}  # text -> when it is told again, and the span after that
        self._began_s = self._failed_s = -math.inf

    def tell(self, text: str, wait_s: float) -> None:
        """Logs it, if that is due."""
        now_s = time.monotonic()
        if now_s - self._failed_s > _SAME_OUTAGE_S:
            self._told.clear()
            self._began_s = now_s
        self._failed_s = now_s + wait_s
        due_s, span_s = self._told.get(text, (now_s, _TOLD_AGAIN_S))
        if now_s < due_s:
            return
        if text not in self._told:
            _log.warning("%s; next attempt in %.2f s", text, wait_s)
        else:
            _log.warning("%s; tried again and again for %.0f s", text, now_s - self._began_s)
        self._told[text] = now_s + span_s, min(2 * span_s, _TOLD_AGAIN_MAX_S)


async def wait_out(
    backoff: Backoff, error: SeedbedError, endpoint: Endpoint | None, complaints: Complaints, where: str
) -> None:
    """Logs a failed attempt and sleeps before the next one.

    Args:
        backoff: decides how long; what a restarting server asked for comes on top.
        error: why it failed; `explained` here.
        endpoint: of the attempt; None: there was none to try.
        complaints: where it is said.
        where: the attempt was made, for people.

    Raises:
        SeedbedError: see `Backoff.next_wait_s`.
    """
    if endpoint is not None:
        error = await explained(error, endpoint)
    at_least_s = error.retry_after_s if isinstance(error, ServerRestarting) else 0.0
    wait_s = at_least_s + backoff.next_wait_s(error, time.monotonic())
    text = brief(error)
    complaints.tell(text if where in text else f"{where}: {text}", wait_s)
    await asyncio.sleep(wait_s)


async def explained(error: SeedbedError, endpoint: Endpoint) -> SeedbedError:
    """The error itself; where gRPC could not connect, what is seen from here instead, in the words of the doctor."""
    if isinstance(error, UnavailableError) and _NOT_CONNECTED in str(error).lower():
        return await find_fault(endpoint.address, endpoint.credentials) or error
    return error


def brief(error: SeedbedError) -> str:
    """What went wrong, without the way on which gRPC found out: its last words say it."""
    text = str(error)
    if isinstance(error, UnavailableError) and _NOT_CONNECTED in text.lower():
        text = text.rpartition(": ")[2]
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
