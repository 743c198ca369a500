"""The dashboard's process, from outside and from inside.

It holds nothing that would be missed, and writes nothing but that somebody looks: inference never waits for it, however
slow, frozen or dead it is. It does not even exist before the first request: the device process listens, and starts it
when somebody knocks. It ends when nobody has for long, and is replaced when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import multiprocessing
import os
import select
import socket
import ssl
import time
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING

from seedbed.common.address import Address
from seedbed.common.binding import bind_patiently
from seedbed.common.credentials import Reloaded, ServerCredentials, watch_tokens
from seedbed.common.errors import UsageError
from seedbed.common.logs import setup_logging
from seedbed.common.plugins import without_start_directories
from seedbed.common.stop_signals import ignore_stop
from seedbed.server.dashboard.facts import DashboardFacts
from seedbed.server.shared.allocator import keep_freed_memory
from seedbed.server.shared.spawning import uninterrupted

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn.server import ServerState

logger = logging.getLogger(__name__)

FIRST_PORT = 7780
_NUM_PORTS = 100

_NICENESS = 5
_BACKLOG = 16
_RESTART_AFTER_S, _LONGEST_WAIT_S = 1.0, 60.0
_IDLE_S = 600.0
_LOOK_AROUND_S = 5.0
_HANDSHAKE_S = 5.0


class Dashboard:
    """The process from outside: started when somebody knocks, replaced when it dies, ended.

    Attributes:
        url: for people.
    """

    def __init__(self, host: str, port: int | None, credentials: ServerCredentials, facts: DashboardFacts) -> None:
        """Listens; who knocks is answered as soon as `check` is called.

        Args:
            host: to listen on.
            port: 0 lets the system choose; None takes the first that is free from 7780 on.
            credentials: what the server demands of clients: beyond loopback the same is demanded here.
            facts: what is shown.

        Raises:
            PortInUseError: somebody else listens there.
            UsageError: the host is not an address of this machine, or is beyond loopback and unprotected.
            AuthError: token or certificate cannot be used.
        """
        credentials.verify(host, "see this run")
        self._host = host
        self._credentials = credentials
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        name = socket.gethostname() if host in ("0.0.0.0", "::") else host
        self.url = f"{'https' if credentials.tls_cert else 'http'}://{Address(name, self.port)}"
        self._knocks = select.poll()
        self._knocks.register(self._socket, select.POLLIN)
        self._facts = facts.for_reading()
        self._process: SpawnProcess | None = None
        self._started_s = 0.0
        self._wait_s = _RESTART_AFTER_S

    def check(self) -> None:
        """Starts the process if it is not there and somebody knocks. The port stays ours: it is we who listen."""
        if self._process is not None and self._process.is_alive():
            return
        now_s = time.monotonic()
        if self._process is not None:
            self._bury(now_s)
        if now_s < self._started_s + self._wait_s or not self._knocks.poll(0):
            return
        self._started_s = now_s
        context = multiprocessing.get_context("spawn")
        process = context.Process(
            target=run_dashboard,
            args=(self._socket, self._host, self._credentials, self._facts),
            name="seedbed-dashboard",
            daemon=True,
        )
        try:
            with without_start_directories(), uninterrupted():
                process.start()
        except OSError as error:  # no more processes, memory or descriptors: who only looks must not end a training
            self._wait_s = min(_LONGEST_WAIT_S, 2 * self._wait_s)
            logger.warning("no process behind %s can be started: %s", self.url, error)
        else:
            self._process = process

    def _bury(self, now_s: float) -> None:
        """The process has ended: idle, or because something ended it. One that dies at once is started ever later."""
        assert self._process is not None
        if self._process.exitcode:
            soon = now_s - self._started_s < _LONGEST_WAIT_S
            self._wait_s = min(_LONGEST_WAIT_S, 2 * self._wait_s) if soon else _RESTART_AFTER_S
            logger.warning("the process behind %s is gone; the next request starts another", self.url)
        self._process.close()
        self._process = None

    def stop(self) -> None:
        """Ends it, in the midst of answers if need be: there is nothing to be lost."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._socket.close()


def run_dashboard(listener: socket.socket, host: str, credentials: ServerCredentials, facts: DashboardFacts) -> None:
    """Main function of the process; returns when its parent is gone, or nobody has asked for long."""
    ignore_stop()  # the device process decides
    os.nice(_NICENESS)
    keep_freed_memory()  # a picture of 64 frames took 1.6 ms instead of 0.7: its pages were zeroed anew each time
    setup_logging("dashboard")
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # requests that are none could fill the log
    from seedbed.server.dashboard.app import make_app
    from seedbed.server.dashboard.guard import hosts_of

    tokens = watch_tokens(credentials.token_file)
    hosts = hosts_of(host, credentials.tls_cert, credentials.tls_key)
    asyncio.run(serve(listener, make_app(facts, hosts, tokens.get), credentials))


async def serve(listener: socket.socket, app: ASGIApp, credentials: ServerCredentials) -> None:
    """Answers until the parent is gone or nobody is there."""
    context = _tls_context(credentials)
    certificates = None if context is None else Reloaded(credentials.files, lambda: _load(context, credentials))
    _, state = await open_server(listener, app, context)
    gone = asyncio.Event()
    if (parent := multiprocessing.parent_process()) is not None:
        asyncio.get_running_loop().add_reader(parent.sentinel, gone.set)
    before, since_s = -1, time.monotonic()
    while not gone.is_set():
        if state.connections or state.total_requests != before:
            before, since_s = state.total_requests, time.monotonic()
        elif time.monotonic() - since_s > _IDLE_S:
            break
        if certificates is not None:
            certificates.get()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gone.wait(), _LOOK_AROUND_S)
    os._exit(0)  # there is nothing to be saved, and connections that hang need not be waited for


async def open_server(
    listener: socket.socket, app: ASGIApp, context: ssl.SSLContext | None
) -> tuple[asyncio.Server, ServerState]:
    """Answers from now on, in this event loop; returns who does, and who is connected."""
    import uvicorn
    from uvicorn.server import ServerState

    from seedbed.server.dashboard.connections import KEEP_ALIVE_S, MAX_HEAD_BYTES, Connection

    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(config=config, server_state=state, app_state={}),
        sock=listener,
        backlog=_BACKLOG,
        ssl=context,
        ssl_handshake_timeout=None if context is None else _HANDSHAKE_S,
    )
    return server, state


def _tls_context(credentials: ServerCredentials) -> ssl.SSLContext | None:
    """What a handshake needs; None without TLS."""
    if credentials.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if credentials.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load(context: ssl.SSLContext, credentials: ServerCredentials) -> None:
    """Takes certificates from their files into use; a change that is no use leaves the old ones in force."""
    credentials.read_tls()
    assert credentials.tls_cert is not None
    context.load_cert_chain(credentials.tls_cert, credentials.tls_key)
    if credentials.tls_client_ca is not None:
        context.load_verify_locations(credentials.tls_client_ca)


def _listen(host: str, port: int | None) -> socket.socket:
    if port is not None and not 0 <= port <= 65535:
        raise UsageError(f"expected a --dashboard-port from 0 to 65535, got {port}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        if port is None:
            return _first_free(host, family)
        return bind_patiently(lambda: _create(host, port, family), f"--dashboard-port {port} of {host}")
    except PermissionError as error:
        raise UsageError(f"expected a --dashboard-port that this user may use, got {port}") from error
    except OSError as error:
        raise UsageError(f"expected a --dashboard-host of this machine, got {host} ({error})") from error


def _first_free(host: str, family: int) -> socket.socket:
    """One port after another, and any where all are taken."""
    for port in range(FIRST_PORT, FIRST_PORT + _NUM_PORTS):
        try:
            return _create(host, port, family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _create(host, 0, family)


def _create(host: str, port: int, family: int) -> socket.socket:
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)
