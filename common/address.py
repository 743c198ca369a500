"""HOST:PORT: how it is written, and which hosts are this machine's own."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self

from seedbed.common.errors import UsageError


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is.

    Attributes:
        host: a name, or an IP address without brackets.
        port: 1 to 65535.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads "HOST:PORT"; an IPv6 address stands in brackets, "[::1]:7777".

        Raises:
            UsageError: it is something else.
        """
        host, _, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
        if not host.strip("[]") or (":" in host and not bracketed) or not 1 <= number <= 65535:
            raise UsageError(f"expected HOST:PORT, such as 192.0.2.7:7777 or [2001:db8::7]:7777, got {text!r}")
        return cls(host[1:-1] if bracketed else host, number)

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine and nobody else can reach it there.

    Only "localhost" and literal addresses count: where another name leads may change.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def local_address(listening: str) -> str:
    """Where a program on the same machine reaches a server that listens on "HOST:PORT", which may be a wildcard."""
    address = Address.parse(listening)
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return str(Address(loopback, address.port))
