"""Connections to the dashboard: few of them, each with little time, so that nobody who hangs keeps others out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 16
REQUEST_S = 10.0
"""From the first byte of a request, or from connecting, to the last byte of the answer being taken."""

KEEP_ALIVE_S = 5
MAX_HEAD_BYTES = 8192


class Connection(H11Protocol):
    """One connection.

    A new one beyond the limit takes the place of the one that has been idle for longest, and is refused if there is
    none. A request that is not over in time ends its connection.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._busy = True
        self._since_s = time.monotonic()
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        if len(self.connections) >= MAX_CONNECTIONS and not self._make_room():
            transport.abort()
            return
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self.transport is None:
            return
        self._begin()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Called by uvicorn when an answer has been handed to the transport."""
        self._busy, self._since_s = False, time.monotonic()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self.transport is not None:
            super().connection_lost(exc)

    def _begin(self) -> None:
        """A request begins, or goes on."""
        self._busy = True
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self._expire)

    def _expire(self) -> None:
        """Time is over for the request that began that long ago; the next one has its own."""
        self._deadline = None
        if self.transport.get_write_buffer_size() or (self._busy and time.monotonic() - self._since_s >= REQUEST_S):
            self.transport.abort()
        elif self._busy:
            self._begin()

    def _make_room(self) -> bool:
        """Ends the connection that has been idle for longest."""
        idle = [one for one in self.connections if isinstance(one, Connection) and not one._busy]
        if not idle:
            return False
        oldest = min(idle, key=lambda one: one._since_s)
        oldest.transport.abort()
        self.connections.discard(oldest)
        return True
