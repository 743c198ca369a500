"""The dashboard's process and its connections: real sockets, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.server.dashboard.scene import Scene

pytest.importorskip("starlette")

from seedbed.common.credentials import ServerCredentials, Tokens
from seedbed.common.errors import PortInUseError, UsageError
from seedbed.server.dashboard import connections, process
from seedbed.server.dashboard.app import make_app
from seedbed.server.dashboard.guard import Hosts
from seedbed.server.dashboard.process import FIRST_PORT, Dashboard, open_server
from tests.pki import Authority
from tests.system.processes import eventually


class Parent:
    """The main thread of a server: looks after its dashboard again and again."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.dashboard = dashboard
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._turn)

    def __enter__(self) -> Dashboard:
        self._thread.start()
        return self.dashboard

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.dashboard.stop()

    def _turn(self) -> None:
        while not self._over.wait(0.02):
            self.dashboard.check()


def ask(port: int, path: str = "/api/fleet") -> int:
    return status_of(http.client.HTTPConnection("127.0.0.1", port, timeout=60), path)


def status_of(connection: http.client.HTTPConnection, path: str = "/api/fleet") -> int:
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status


def pid_of(dashboard: Dashboard) -> int:
    assert dashboard._process is not None
    assert dashboard._process.pid is not None
    return dashboard._process.pid


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def dashboard(scene: Scene) -> Iterator[Dashboard]:
    with Parent(Dashboard("127.0.0.1", 0, ServerCredentials(), scene.facts)) as found:
        yield found


def test_a_process_begins_with_the_first_request_and_is_replaced_when_it_dies(
    dashboard: Dashboard, scene: Scene
) -> None:
    time.sleep(0.1)
    assert dashboard._process is None  # nobody has asked: it costs nothing
    assert ask(dashboard.port) == 200
    assert scene.look.lasts(time.monotonic())
    first = pid_of(dashboard)
    assert psutil.Process(first).nice() == os.nice(0) + 5
    os.kill(first, signal.SIGKILL)
    eventually(lambda: dashboard._process is None, "its end to be noticed")
    assert ask(dashboard.port) == 200
    assert pid_of(dashboard) != first


def test_a_process_that_cannot_be_started_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever knocks while the machine has no room for another process does not end the training."""
    tries: list[float] = []

    def refuse(self: SpawnProcess) -> None:
        tries.append(time.monotonic())
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(SpawnProcess, "start", refuse)
    monkeypatch.setattr(process, "_RESTART_AFTER_S", 0.01)
    dashboard = Dashboard("127.0.0.1", 0, ServerCredentials(), Scene(tmp_path).facts)
    try:
        with socket.create_connection(("127.0.0.1", dashboard.port)):
            while len(tries) < 2:
                dashboard.check()
                time.sleep(0.01)
    finally:
        dashboard.stop()
    assert "can be started: [Errno 11]" in caplog.text


def test_a_frozen_one_holds_nobody_up(dashboard: Dashboard, scene: Scene) -> None:
    import torch

    assert ask(dashboard.port) == 200
    pid = pid_of(dashboard)
    os.kill(pid, signal.SIGSTOP)
    try:
        lease = scene.join("a", 1, 2)
        begun_s = time.monotonic()
        for _ in range(50):
            scene.send(lease, np.zeros((2, 40, 36, 1), np.uint8))
            scene.answer(lease, torch.tensor([1.0, 0.0]), 0.0, time.monotonic())
            dashboard.check()
        assert time.monotonic() - begun_s < 5.0
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ask(dashboard.port) == 200


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """The parent's end of the pipe closes when the parent is gone; here it is asked to stop."""
    with Parent(Dashboard("127.0.0.1", 0, ServerCredentials(), Scene(tmp_path).facts)) as found:
        assert ask(found.port) == 200
        pid = pid_of(found)
    assert not psutil.pid_exists(pid)


def test_ports(tmp_path: Path) -> None:
    facts = Scene(tmp_path).facts
    first = Dashboard("127.0.0.1", None, ServerCredentials(), facts)
    second = Dashboard("127.0.0.1", None, ServerCredentials(), facts)
    try:
        assert FIRST_PORT <= first.port < second.port < FIRST_PORT + 100
        assert first.url == f"http://127.0.0.1:{first.port}"
    finally:
        first.stop()
        second.stop()
    with pytest.raises(UsageError, match="--dashboard-host"):
        Dashboard("192.0.2.1", 0, ServerCredentials(insecure=True), facts)


def test_a_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seedbed.common import binding

    monkeypatch.setattr(binding, "PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"--dashboard-port {port}"):
            Dashboard("127.0.0.1", port, ServerCredentials(), Scene(tmp_path).facts)


class Here:
    """The same server in this process, on an event loop of its own, so that its limits can be made small."""

    def __init__(self, scene: Scene, context: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._app = make_app(scene.facts, Hosts("127.0.0.1"), lambda: Tokens(()))
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Here:
        self._thread.start()
        opened = open_server(self._listener, self._app, self._context)
        self._server, self.state = asyncio.run_coroutine_threadsafe(opened, self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        for one in list(self.state.connections):
            self._loop.call_soon_threadsafe(one.transport.abort)
        time.sleep(0.05)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    def dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_half_a_request_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.3)
    with Here(Scene(tmp_path)) as server, server.dial() as slow:
        begun_s = time.monotonic()
        for _ in range(3):  # one that sends a byte now and then gains nothing
            slow.sendall(b"G")
            time.sleep(0.05)
        assert is_closed(slow)
        assert time.monotonic() - begun_s < 5.0
        assert ask(server.port) == 200


def test_silence_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.3)
    with Here(Scene(tmp_path)) as server, server.dial() as silent:
        assert is_closed(silent)


def test_a_viewer_that_goes_on_asking_stays_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.3)
    with Here(Scene(tmp_path)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        with contextlib.closing(connection):
            for _ in range(10):
                connection.request("GET", "/api/fleet")
                assert connection.getresponse().read() == b"[]"
                time.sleep(0.1)
            assert len(server.state.connections) == 1


def test_connections_are_few_and_new_ones_take_the_place_of_idle_ones(tmp_path: Path) -> None:
    with Here(Scene(tmp_path)) as server, contextlib.ExitStack() as held:
        idle = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(20)]
        for connection in idle:
            held.callback(connection.close)
            connection.request("GET", "/api/fleet")
            assert connection.getresponse().read() == b"[]"
        assert len(server.state.connections) <= connections.MAX_CONNECTIONS
        assert ask(server.port) == 200


def test_while_all_connections_are_busy_others_are_refused(tmp_path: Path) -> None:
    with Here(Scene(tmp_path)) as server, contextlib.ExitStack() as held:
        for _ in range(connections.MAX_CONNECTIONS):
            held.enter_context(server.dial()).sendall(b"GET / HT")
        eventually(lambda: len(server.state.connections) == connections.MAX_CONNECTIONS, "all to be connected", 10.0)
        with server.dial() as late:
            assert is_closed(late)


def test_rubbish_and_long_heads_are_refused(tmp_path: Path) -> None:
    with Here(Scene(tmp_path)) as server:
        for rubbish in (b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n"):
            with server.dial() as connection:
                connection.sendall(rubbish)
                assert connection.recv(100).startswith(b"HTTP/1.1 400")
        assert ask(server.port) == 200


def test_fifteen_pictures_a_second_for_all_viewers_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path)
    lease = scene.join("a", *range(8))
    scene.send(lease, np.zeros((8, 40, 36, 1), np.uint8))
    made = 0
    from seedbed.server.dashboard.views import Views

    picture = Views.picture

    def counted(*arguments: object) -> object:
        nonlocal made
        made += 1
        return picture(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Views, "picture", counted)

    def look(number: int, different: bool) -> None:
        for _ in range(15):
            assert ask(server.port, f"/api/mosaic.png?slots={number if different else 'all'}") == 200

    with Here(scene) as server:
        for different in (True, False):
            made, begun_s = 0, time.monotonic()
            viewers = [threading.Thread(target=look, args=(number, different)) for number in range(3)]
            for viewer in viewers:
                viewer.start()
            for viewer in viewers:
                viewer.join()
            assert made <= 15 * (time.monotonic() - begun_s) + 2
        assert made < 45  # who looks at the same got the same picture


def test_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("server")
    credentials = ServerCredentials(tls_cert=pair.certificate, tls_key=pair.key)
    context = process._tls_context(credentials)
    assert context is not None
    process._load(context, credentials)
    with Here(Scene(tmp_path), context) as server:
        trusting = ssl.create_default_context(cafile=str(authority.certificate))
        connection = http.client.HTTPSConnection("localhost", server.port, timeout=10, context=trusting)
        assert status_of(connection) == 200
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(server.port)


def test_certificates_of_clients_are_demanded_where_the_server_demands_them(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, friend = authority.sign("server"), authority.sign("friend")
    credentials = ServerCredentials(tls_cert=pair.certificate, tls_key=pair.key, tls_client_ca=authority.certificate)
    context = process._tls_context(credentials)
    assert context is not None
    process._load(context, credentials)
    with Here(Scene(tmp_path), context) as server:
        trusting = ssl.create_default_context(cafile=str(authority.certificate))
        stranger = http.client.HTTPSConnection("localhost", server.port, timeout=10, context=trusting)
        with pytest.raises((OSError, http.client.HTTPException)):
            status_of(stranger)
        known = ssl.create_default_context(cafile=str(authority.certificate))
        known.load_cert_chain(friend.certificate, friend.key)
        connection = http.client.HTTPSConnection("localhost", server.port, timeout=10, context=known)
        assert status_of(connection) == 200
