"""A reserved port: strangers are refused, our own frontends are not."""

from __future__ import annotations

import socket
import threading

import pytest

from seedbed.common import binding
from seedbed.common.errors import PortInUseError, UsageError
from seedbed.server.frontend.port import ReservedPort


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here is leaving."""
    monkeypatch.setattr(binding, "PATIENCE_S", 0.0)


def listen(port: int, *, share: bool) -> socket.socket:
    listener = socket.socket()
    if share:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    listener.listen()
    return listener


def test_the_system_chooses_a_port_and_it_is_kept() -> None:
    one, two = ReservedPort("127.0.0.1", 0), ReservedPort("127.0.0.1", 0)
    assert one.port != two.port
    assert one.address == f"127.0.0.1:{one.port}"
    with pytest.raises(OSError, match="in use"):
        listen(one.port, share=False)
    one.close()
    two.close()


def test_frontends_share_it_and_the_reservation_takes_no_connection() -> None:
    reserved = ReservedPort("127.0.0.1", 0)
    with listen(reserved.port, share=True) as first, listen(reserved.port, share=True) as second:
        first.settimeout(0.0)
        second.settimeout(0.0)
        clients = [socket.create_connection(("127.0.0.1", reserved.port), timeout=5) for _ in range(20)]
        accepted = []
        for listener in (first, second):
            while True:
                try:
                    accepted.append(listener.accept()[0])
                except BlockingIOError:
                    break
        assert len(accepted) == len(clients)
        for connection in (*clients, *accepted):
            connection.close()
    reserved.close()


@pytest.mark.parametrize("share", [False, True])
def test_a_port_on_which_another_listens_is_refused(share: bool) -> None:
    with listen(0, share=share) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} of 127.0.0.1"):
            ReservedPort("127.0.0.1", port)


def test_a_second_server_on_the_same_port_is_refused_before_it_listens() -> None:
    reserved = ReservedPort("127.0.0.1", 0)
    with pytest.raises(PortInUseError):
        ReservedPort("127.0.0.1", reserved.port)
    reserved.close()
    again = ReservedPort("127.0.0.1", reserved.port)
    again.close()


def test_whoever_is_leaving_is_waited_for(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A server that was killed leaves frontends behind, for a moment; it is said once what is waited for."""
    monkeypatch.setattr(binding, "PATIENCE_S", 30.0)
    leaving = listen(0, share=True)
    port = leaving.getsockname()[1]
    threading.Timer(0.3, leaving.close).start()
    ReservedPort("127.0.0.1", port).close()
    assert leaving.fileno() == -1
    [line] = caplog.messages
    assert line.startswith(f"port {port} of 127.0.0.1 is taken; waiting up to 30 s")


@pytest.mark.parametrize(("host", "port"), [("203.0.113.7", 0), ("no such host", 0)])
def test_an_address_that_is_not_ours_is_a_usage_error(host: str, port: int) -> None:
    with pytest.raises(UsageError, match="expected an address"):
        ReservedPort(host, port)


@pytest.mark.parametrize("port", [-1, 65_536, 70_000])
def test_a_number_that_no_port_has_is_a_usage_error(port: int) -> None:
    with pytest.raises(UsageError, match=f"from 0 to 65535, got {port}"):
        ReservedPort("127.0.0.1", port)


def test_an_ipv6_address_is_bracketed() -> None:
    try:
        reserved = ReservedPort("::1", 0)
    except UsageError:
        pytest.skip("this machine has no IPv6 loopback")
    assert reserved.address == f"[::1]:{reserved.port}"
    reserved.close()
