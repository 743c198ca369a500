"""A TCP proxy on this machine whose faults are switched while connections run: a bad network for tests.

    with Proxy(server.address) as proxy:
        client = Program("env", "--server", proxy.address, ...)
        proxy.to_client.latency_s = 0.1             # from now on, for all connections
        with proxy.to_server.holding():             # a black hole in one direction
            ...
        proxy.reset()                               # RST to both ends of all connections

It delays, slices and stops bytes, but never loses, changes or reorders any: that is what TCP makes of a network that
does. It knows nothing of what it forwards, so TLS passes through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

RETRANSMISSION_S = 0.2
"""What a lost packet costs on Linux: its shortest retransmission time-out (TCP_RTO_MIN)."""

_CHUNK_BYTES = 16 * 1024
_QUEUED_CHUNKS = 64  # of one direction of one connection; then the sender is held up, as by a full window
_SLICE_PAUSE_S = 0.001  # or the receiver would find the slices put together again
_POLL_S = 0.005
_LINGER_NOT = struct.pack("ii", 1, 0)  # close() sends RST


@dataclass(slots=True)
class Direction:
    """What is wrong with one direction, of all connections alike. Set the attributes at any time.

    Attributes:
        latency_s: added to the way of every byte.
        jitter_s: up to so much more or less, at random; bytes never overtake one another.
        loss: share of chunks that are held up for `RETRANSMISSION_S`, and all behind them.
        bytes_per_s: bandwidth; None: unlimited.
        slice_bytes: at most so many bytes arrive at once; None: as they come.
        black_hole: nothing arrives, not even the end of a connection. What comes meanwhile waits.
        forwarded_bytes: so far.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    bytes_per_s: float | None = None
    slice_bytes: int | None = None
    black_hole: bool = False
    forwarded_bytes: int = 0

    @contextmanager
    def holding(self) -> Iterator[None]:
        """A black hole, for a while."""
        self.black_hole = True
        try:
            yield
        finally:
            self.black_hole = False

    def delay_s(self, generator: random.Random) -> float:
        """Of the next chunk."""
        lost_s = RETRANSMISSION_S if generator.random() < self.loss else 0.0
        return max(0.0, self.latency_s + generator.uniform(-self.jitter_s, self.jitter_s)) + lost_s


@dataclass(slots=True, eq=False)
class _Connection:
    """Two sockets and what has been read from each but not yet written to the other."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def end(self, *, reset: bool) -> None:
        """Closes both sockets; with `reset` both peers see ECONNRESET, otherwise the end of the stream."""
        for task in self.tasks:
            task.cancel()
        for writer in (self.client, self.server):
            if reset:
                with contextlib.suppress(OSError):  # closed by its peer already
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            writer.transport.abort()


class Proxy:
    """Listens on a port of its own and forwards to the target; use it as a context.

    Attributes:
        target: "HOST:PORT" to which new connections lead; may be changed.
        address: "HOST:PORT" to connect to.
        to_server, to_client: faults of the two directions.
        refusing: new connections are reset at once.
        accepted: connections so far.
    """

    def __init__(self, target: str, *, host: str = "127.0.0.1", port: int = 0, seed: int = 0) -> None:
        """Listens from now on, forwards from `__enter__` on.

        Args:
            target: see above.
            host, port: to listen on; port 0: any.
            seed: of jitter and loss.
        """
        self.target = target
        self.to_server, self.to_client = Direction(), Direction()
        self.refusing = False
        self.accepted = 0
        self._listener = socket.create_server((host, port))
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self._random = random.Random(seed)
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # one for each connection
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    @property
    def open_connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    def reset(self) -> None:
        """Ends all connections with RST, as a crashed middlebox does."""
        self._call(lambda: self._end_all(reset=True))

    def cut(self) -> None:
        """Ends all connections in order (FIN), whatever is still under way is dropped."""
        self._call(lambda: self._end_all(reset=False))

    def __enter__(self) -> Self:
        self._thread.start()
        start = asyncio.start_server(self._accept, sock=self._listener)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, action: Callable[[], None]) -> None:
        """Runs it on the proxy's thread and waits."""

        async def run() -> None:
            action()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    async def _close(self) -> None:
        self._server.close()
        self._end_all(reset=True)
        ours = asyncio.all_tasks() - {asyncio.current_task()}
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)

    def _end_all(self, *, reset: bool) -> None:
        for connection in self._connections:
            connection.end(reset=reset)
        self._connections.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        host, _, port = self.target.rpartition(":")
        try:
            if self.refusing:
                raise ConnectionRefusedError
            server_reader, server_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            _Connection(writer, writer).end(reset=True)
            return
        connection = _Connection(writer, server_writer)
        self._connections.add(connection)
        connection.tasks += [
            asyncio.ensure_future(self._forward(reader, server_writer, self.to_server)),
            asyncio.ensure_future(self._forward(server_reader, writer, self.to_client)),
        ]
        await asyncio.wait(connection.tasks, return_when=asyncio.FIRST_EXCEPTION)
        if connection in self._connections:
            self._connections.discard(connection)
            connection.end(reset=True)  # where both halves have ended nothing is left to be reset

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        """One direction of one connection, until its end has been passed on."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_CHUNKS)
        sending = asyncio.ensure_future(self._send(queue, writer, direction))
        try:
            while not sending.done():
                data = await reader.read(_CHUNK_BYTES)
                await queue.put((time.monotonic() + direction.delay_s(self._random), data))
                if not data:
                    break
            await sending
        finally:
            sending.cancel()

    async def _send(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        while True:
            due_s, data = await queue.get()
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            if not data:
                await _wait_while_black(direction)
                writer.write_eof()
                return
            while data:
                await _wait_while_black(direction)
                size = min(direction.slice_bytes or len(data), len(data))
                piece, data = data[:size], data[size:]
                writer.write(piece)
                await writer.drain()
                direction.forwarded_bytes += len(piece)
                pause_s = _SLICE_PAUSE_S if direction.slice_bytes else 0.0
                if direction.bytes_per_s is not None:
                    pause_s = max(pause_s, len(piece) / direction.bytes_per_s)
                if pause_s:
                    await asyncio.sleep(pause_s)


async def _wait_while_black(direction: Direction) -> None:
    while direction.black_hole:
        await asyncio.sleep(_POLL_S)
