"""One public port for all frontends.

Frontends share the port with SO_REUSEPORT, which would also let a stranger (or a forgotten server) share it and take
half of the clients. So the port is first bound exclusively, which proves that nobody else holds it; then it is held by
a socket that never listens while frontends come and go.
"""

from __future__ import annotations

import socket

from seedbed.common.binding import bind_patiently
from seedbed.common.errors import UsageError


class ReservedPort:
    """A port that only sockets of this user with SO_REUSEPORT can share.

    Attributes:
        host: as asked.
        port: the number; chosen by the system if 0 was asked.
    """

    def __init__(self, host: str, port: int) -> None:
        """Reserves it.

        Raises:
            PortInUseError: somebody else listens there, and stays.
            UsageError: the host is not an address of this machine, or the port not a number that ports have.
        """
        if not 0 <= port <= 65535:  # getaddrinfo would take it modulo 65536
            raise UsageError(f"expected a port from 0 to 65535, got {port}")
        self.host = host
        self.port = _prove_free(host, port)
        self._socket = _bind(host, self.port, share=True)

    @property
    def address(self) -> str:
        """HOST:PORT for gRPC."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def close(self) -> None:
        """Gives it back."""
        self._socket.close()


def _prove_free(host: str, port: int) -> int:
    """Binds without SO_REUSEPORT, which fails if anybody else is bound, and returns the number."""
    with _bind(host, port, share=False) as probe:
        return int(probe.getsockname()[1])


def _bind(host: str, port: int, *, share: bool) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"expected an address to listen on, got {host}:{port} ({error})") from error

    def bind() -> socket.socket:
        holder = socket.socket(family, kind, protocol)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if share else socket.SO_REUSEADDR, 1)
        try:
            holder.bind(address)
        except OSError:
            holder.close()
            raise
        return holder

    try:
        return bind_patiently(bind, f"port {port} of {host}")
    except OSError as error:
        raise UsageError(f"expected an address of this machine, got {host}:{port} ({error.strerror})") from error
