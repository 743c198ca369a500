"""/healthz, /readyz and /metrics, answered by a process of their own.

A scraper that hangs, floods or sends rubbish meets only that process, which has nothing but the vitals: inference
never waits for it. It judges the other processes from outside, so it tells the truth while they hang. It serves one
short request per connection, knows no torch and no gRPC, and holds nothing that would be missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from multiprocessing.context import SpawnProcess

from seedbed.common.binding import bind_patiently
from seedbed.common.errors import UsageError
from seedbed.common.logs import setup_logging
from seedbed.common.plugins import without_start_directories
from seedbed.common.stop_signals import ignore_stop
from seedbed.server.monitoring.prometheus import CONTENT_TYPE, ServerFacts, metrics_page
from seedbed.server.shared.spawning import uninterrupted

logger = logging.getLogger(__name__)

_REQUEST_S = 5.0  # from connecting to the last byte of the answer; longer is a fault of the other side
_MAX_HEAD_BYTES = 8192
_MAX_CONNECTIONS = 128
_NICENESS = 5  # a flood of requests must not take a busy machine from inference
_RESTART_AFTER_S = 1.0

Page = tuple[HTTPStatus, str, bytes]
_TEXT = "text/plain; charset=utf-8"


class HttpEndpoint:
    """The process from outside: started, replaced when it dies, ended.

    Attributes:
        address: HOST:PORT.
    """

    def __init__(self, host: str, port: int, facts: ServerFacts) -> None:
        """Listens; nobody answers yet.

        Raises:
            PortInUseError: somebody else does.
            UsageError: the host is not an address of this machine.
        """
        self._facts = facts
        self._socket = _listen(host, port)
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        self._process: SpawnProcess | None = None
        self._started_s = 0.0

    def start(self) -> None:
        """Starts the process."""
        self._started_s = time.monotonic()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(
            target=run_http, args=(self._socket, self._facts), name="seedbed-http", daemon=True
        )
        with without_start_directories(), uninterrupted():
            self._process.start()

    def check(self) -> None:
        """Starts it again if it died. The port stays ours: it is this process that listens."""
        alive = self._process is not None and self._process.is_alive()
        if not alive and time.monotonic() > self._started_s + _RESTART_AFTER_S:
            logger.warning("the process that answers http://%s is gone, starting another", self.address)
            try:
                self.start()
            except OSError as error:  # no more processes, memory or descriptors: tried again
                logger.warning("no process for http://%s can be started: %s", self.address, error)

    def stop(self) -> None:
        """Ends it, in the midst of answers if need be: clients of /metrics expect that of a server that leaves."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._socket.close()


def run_http(listener: socket.socket, facts: ServerFacts) -> None:
    """Main function of the process; returns when its parent is gone."""
    ignore_stop()  # the device process decides; until then health is told
    os.nice(_NICENESS)
    setup_logging("http")
    asyncio.run(_serve(listener, facts))


async def _serve(listener: socket.socket, facts: ServerFacts) -> None:
    connections: dict[asyncio.Task[None], None] = {}

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(connections) >= _MAX_CONNECTIONS:
            next(iter(connections)).cancel()  # the oldest: a probe is done within milliseconds
        task = asyncio.create_task(_answer(reader, writer, facts))
        connections[task] = None
        task.add_done_callback(connections.pop)

    await asyncio.start_server(accept, sock=listener, limit=_MAX_HEAD_BYTES)
    parent_gone = asyncio.Event()
    parent = multiprocessing.parent_process()
    assert parent is not None, "spawned by the device process"
    asyncio.get_running_loop().add_reader(parent.sentinel, parent_gone.set)
    await parent_gone.wait()
    os._exit(0)  # there is nothing to be saved, and connections that hang need not be waited for


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, facts: ServerFacts) -> None:
    """One request. Whatever goes wrong with it ends it."""
    transport = writer.transport
    try:
        async with asyncio.timeout(_REQUEST_S):
            head = await reader.readuntil(b"\r\n\r\n")
            transport.set_write_buffer_limits(0)  # so that `drain` means that all is out
            writer.write(_respond(head, facts))
            await writer.drain()
            writer.write_eof()
            await reader.read()  # closing earlier could throw away what the other side has not read yet
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        with contextlib.suppress(OSError):
            transport.abort()


def _respond(head: bytes, facts: ServerFacts) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.split(b" ")[0].partition(b"?")[0].decode("latin-1")
    if method not in (b"GET", b"HEAD"):
        status, content_type, body = HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"expected GET\n"
    else:
        status, content_type, body = page(path, facts)
    fields = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        "\r\n",
    )
    return "\r\n".join(fields).encode() + (b"" if method == b"HEAD" else body)


def page(path: str, facts: ServerFacts) -> Page:
    """What a path shows. A check that fails itself fails closed: neither live nor ready."""
    make = _PAGES.get(path)
    if make is None:
        return HTTPStatus.NOT_FOUND, _TEXT, f"expected {', '.join(_PAGES)}\n".encode()
    try:
        return make(facts)
    except Exception as error:
        logger.exception("%s cannot be answered", path)
        return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"cannot tell: {error!r}\n".encode()


def _verdict(faults: tuple[str, ...]) -> Page:
    status = HTTPStatus.SERVICE_UNAVAILABLE if faults else HTTPStatus.OK
    return status, _TEXT, ("\n".join(faults or ("ok",)) + "\n").encode()


_PAGES: dict[str, Callable[[ServerFacts], Page]] = {
    "/healthz": lambda facts: _verdict(facts.health().not_live),
    "/readyz": lambda facts: _verdict(facts.health().not_ready),
    "/metrics": lambda facts: (HTTPStatus.OK, CONTENT_TYPE, metrics_page(facts)),
}


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise UsageError(f"expected an --http-port from 0 to 65535, got {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return bind_patiently(
            lambda: socket.create_server(address[:2], family=family, backlog=_MAX_CONNECTIONS),
            f"--http-port {port} of {host}",
        )
    except PermissionError as error:
        raise UsageError(f"expected an --http-port that this user may use, got {port}") from error
    except OSError as error:
        raise UsageError(f"expected an --http-host of this machine, got {host} ({error})") from error
