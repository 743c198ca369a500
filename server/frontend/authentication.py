"""The one place where a caller without a valid token is turned away, whatever it calls.

An interceptor sees every call before its handler is known to exist: also methods that are added later, and those that
do not exist. Nothing is read, allocated or leased for a caller that is refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio

from seedbed.common.credentials import AUTHORIZATION_KEY, Reloaded, Tokens
from seedbed.common.errors import AuthError
from seedbed.server.frontend.rpc import abort

logger = logging.getLogger(__name__)

_LOG_INTERVAL_S = 10.0


class TokenRequired(grpc.aio.ServerInterceptor):
    """Lets calls with a valid token through, and refuses all others.

    Args:
        tokens: the valid ones; none at all means that no call gets through.
        clock: a monotonic time, in seconds.
    """

    def __init__(self, tokens: Reloaded[Tokens], clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens = tokens
        self._clock = clock
        self._log_from_s = -float("inf")
        self._unlogged = 0
        # A handler of streams fits calls of every kind here: it ends them before it reads any message. One of unary
        # calls would first take a whole message in.
        self._refusal = grpc.stream_stream_rpc_method_handler(self._refuse)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """See the base class."""
        if self._tokens.get().accept(handler_call_details.invocation_metadata):
            return await continuation(handler_call_details)
        return self._refusal

    async def _refuse(self, _: Any, context: Any) -> NoReturn:
        self._log(context.peer())
        shown = any(key == AUTHORIZATION_KEY for key, _ in context.invocation_metadata())
        got = "another one" if shown else "none"
        await abort(context, AuthError(f"expected this server's token (--token-file of the client), got {got}"))

    def _log(self, peer: str) -> None:
        """One line in a while, whoever knocks and however often."""
        now_s = self._clock()
        if now_s < self._log_from_s:
            self._unlogged += 1
            return
        before = f"; {self._unlogged} more before it" if self._unlogged else ""
        logger.warning("refused a call without a valid token from %s%s", peer, before)
        self._log_from_s, self._unlogged = now_s + _LOG_INTERVAL_S, 0
