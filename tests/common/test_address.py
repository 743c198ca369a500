"""HOST:PORT, and what counts as this machine."""

from __future__ import annotations

import pytest

from seedbed.common.address import Address, is_loopback, local_address
from seedbed.common.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("example.org:7777", "example.org", 7777),
        ("192.0.2.7:1", "192.0.2.7", 1),
        ("[2001:db8::7]:65535", "2001:db8::7", 65535),
    ],
)
def test_round_trip(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "host", ":7777", "host:", "host:0", "host:65536", "host:7x", "::1:7777", "[]:7777", "host:٧", "host:-1"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected HOST:PORT.*got"):
        Address.parse(text)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.1", "localhost.example.org", "127.0.0.1.nip.io", "::2"]
)
def test_not_loopback(host: str) -> None:
    """Names are not, wherever they lead now."""
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("listening", "reached"),
    [
        ("0.0.0.0:1", "127.0.0.1:1"),
        ("[::]:1", "[::1]:1"),
        ("192.0.2.7:1", "192.0.2.7:1"),
        ("localhost:1", "localhost:1"),
    ],
)
def test_local_address(listening: str, reached: str) -> None:
    assert local_address(listening) == reached
