"""The bad network of the tests does what it is told, and never more."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.system.processes import eventually
from tests.system.proxy import RETRANSMISSION_S, Proxy

QUICK_S = 0.2
"""Nothing that is held back arrives meanwhile."""


class _EchoServer:
    """Sends back what it gets, and ends a connection when its peer does."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        try:
            while True:
                threading.Thread(target=_echo, args=(self._listener.accept()[0],), daemon=True).start()
        except OSError:
            pass


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except OSError:
            pass


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    server = _EchoServer()
    with Proxy(server.address) as proxy:
        yield proxy
    server.close()


def _connect(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        assert more, f"expected {size} bytes, the connection ended after {len(data)}"
        data += more
    return data


def _round_trip_s(connection: socket.socket) -> float:
    began_s = time.monotonic()
    connection.sendall(b"ping")
    assert _receive(connection, 4) == b"ping"
    return time.monotonic() - began_s


def test_bytes_pass_unchanged_in_order_and_are_counted(proxy: Proxy) -> None:
    data = bytes(range(256)) * 4096
    proxy.to_server.jitter_s = proxy.to_client.jitter_s = 0.002
    proxy.to_client.loss = 0.05
    with _connect(proxy) as connection:
        threading.Thread(target=connection.sendall, args=(data,)).start()
        assert _receive(connection, len(data)) == data
    eventually(lambda: proxy.open_connections == 0, "the end to be passed on")  # what it has sent, it counts after
    assert proxy.to_server.forwarded_bytes == proxy.to_client.forwarded_bytes == len(data)


def test_an_end_of_one_half_is_passed_on_and_the_other_half_lives(proxy: Proxy) -> None:
    with _connect(proxy) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        eventually(lambda: proxy.open_connections == 0, "the end to be passed on", 5)
        assert _receive(connection, 10) == b"last words"
        assert connection.recv(1) == b""


def test_a_reset_is_passed_on(proxy: Proxy) -> None:
    with _connect(proxy) as connection:
        _round_trip_s(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    eventually(lambda: proxy.open_connections == 0, "the end of the other connection too", 5)


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_latency(proxy: Proxy, direction: str) -> None:
    with _connect(proxy) as connection:
        getattr(proxy, direction).latency_s = 0.15
        assert _round_trip_s(connection) >= 0.15


def test_loss_holds_up(proxy: Proxy) -> None:
    proxy.to_client.loss = 1.0
    with _connect(proxy) as connection:
        assert _round_trip_s(connection) >= RETRANSMISSION_S


def test_bandwidth(proxy: Proxy) -> None:
    proxy.to_server.bytes_per_s = 100_000
    with _connect(proxy) as connection:
        began_s = time.monotonic()
        connection.sendall(bytes(30_000))
        _receive(connection, 30_000)
        assert time.monotonic() - began_s >= 0.14  # what the last piece costs is paid after it was sent


def test_slices(proxy: Proxy) -> None:
    proxy.to_client.slice_bytes = 10
    with _connect(proxy) as connection:
        connection.sendall(bytes(500))
        sizes: list[int] = []
        while sum(sizes) < 500:
            sizes.append(len(connection.recv(500)))
        assert len(sizes) > 10


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
@pytest.mark.parametrize("data", [b"ping", b""])
def test_a_black_hole_holds_bytes_and_ends_back_until_it_is_lifted(proxy: Proxy, direction: str, data: bytes) -> None:
    with _connect(proxy) as connection:
        _round_trip_s(connection)
        with getattr(proxy, direction).holding():
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(QUICK_S)
            with pytest.raises(TimeoutError):
                connection.recv(4)
        connection.settimeout(10)
        assert _receive(connection, len(data)) == data
        assert connection.recv(1) == b""


def test_reset(proxy: Proxy) -> None:
    with _connect(proxy) as connection:
        _round_trip_s(connection)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert proxy.open_connections == 0
    with _connect(proxy) as another:
        _round_trip_s(another)


def test_cut(proxy: Proxy) -> None:
    with _connect(proxy) as connection:
        _round_trip_s(connection)
        proxy.cut()
        assert connection.recv(1) == b""


def test_refusing_and_another_target(proxy: Proxy) -> None:
    proxy.refusing = True
    with pytest.raises(ConnectionResetError), _connect(proxy) as connection:  # perhaps while it still connects
        connection.recv(1)
    proxy.refusing = False
    other = _EchoServer()
    proxy.target = other.address
    with _connect(proxy) as connection:
        _round_trip_s(connection)
    proxy.target = "127.0.0.1:1"
    with pytest.raises(ConnectionResetError), _connect(proxy) as connection:  # perhaps while it still connects
        connection.recv(1)
    other.close()
    assert proxy.accepted == 3


def test_faults_of_chance_repeat_with_the_seed() -> None:
    def delays(seed: int) -> list[float]:
        with Proxy("127.0.0.1:1", seed=seed) as proxy:
            proxy.to_client.jitter_s = 1.0
            return [proxy.to_client.delay_s(proxy._random) for _ in range(5)]

    assert delays(1) == delays(1) != delays(2)
