"""Servers as `--server` names them: one address, a list of them, or a name all of whose addresses are servers.

    HOST:PORT                     one server
    HOST:PORT,HOST:PORT,...       replicas of one run
    dns:NAME:PORT                 replicas too: every address of the name, looked up anew whenever it matters

Parts may be mixed. Why a name is no list of one: the addresses of HOST are ways to the same server, those of dns:NAME
are servers of their own (a headless service of Kubernetes, several A records).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from seedbed.common.address import Address
from seedbed.common.credentials import ClientCredentials
from seedbed.common.diagnosis import look_up
from seedbed.common.errors import SeedbedError, UsageError

SERVERS_METAVAR = "HOST:PORT[,...]|dns:NAME:PORT"
"""For help."""

_EXAMPLES = "HOST:PORT, a list HOST:PORT,HOST:PORT or dns:NAME:PORT"
_DNS = "dns:"


@dataclass(frozen=True, slots=True)
class ServerName:
    """One part of what --server says.

    Attributes:
        address: of the server, or the name and the port of several.
        every: all addresses of the name are servers.
    """

    address: Address
    every: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads "HOST:PORT" or "dns:NAME:PORT".

        Raises:
            UsageError: it is neither.
        """
        name = text.removeprefix(_DNS)
        if name == text or ":" not in name:  # "dns:7777" is the port of a host called dns
            return cls(Address.parse(text))
        if "/" in name:
            raise UsageError(f"expected dns:NAME:PORT, such as dns:servers:7777, got {text!r}")
        return cls(Address.parse(name), every=True)

    def __str__(self) -> str:
        return f"{_DNS}{self.address}" if self.every else str(self.address)


@dataclass(frozen=True, slots=True)
class Server:
    """One server.

    Attributes:
        address: where it is.
        name: that its address was found under; None: its address is what was given.
    """

    address: Address
    name: str | None = None

    def credentials(self, given: ClientCredentials) -> ClientCredentials:
        """Those for this server: its certificate is for the name it was found under, not for an address."""
        if self.name is None or not given.uses_tls or given.tls_server_name is not None:
            return given
        return replace(given, tls_server_name=self.name)


@dataclass(frozen=True, slots=True)
class ServerList:
    """All that --server says; see the module."""

    names: tuple[ServerName, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads it.

        Raises:
            UsageError: a part is missing, malformed, or there twice.
        """
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 1 and not all(parts):
            raise UsageError(f"expected {_EXAMPLES}, got {text!r}, a list with an empty part")
        names = tuple(map(ServerName.parse, parts))
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"expected servers that differ, got {text!r}, which names {twice} twice")
        return cls(names)

    @property
    def only(self) -> Address | None:
        """The one server there ever is; None if there are, or may be, several."""
        return None if len(self.names) > 1 or self.names[0].every else self.names[0].address

    @property
    def is_loopback(self) -> bool:
        """Whether all of them are on this machine."""
        return all(name.address.is_loopback for name in self.names)

    def check(self, credentials: ClientCredentials, tokens: Sequence[str]) -> None:
        """Refuses to show a token to whoever can listen on the way to one of them.

        Raises:
            UsageError: see `ClientCredentials.check`.
        """
        for name in self.names:
            credentials.check(name.address, tokens)

    async def servers(self) -> list[Server]:
        """Those there are now, each once. A name that cannot be looked up has none, as long as others are left.

        Raises:
            UnavailableError: none is known.
        """
        found = await asyncio.gather(*map(_servers_of, self.names), return_exceptions=True)
        servers: dict[Address, Server] = {}
        for answer in found:
            if isinstance(answer, BaseException):
                if not isinstance(answer, SeedbedError):
                    raise answer
                continue
            for server in answer:
                servers.setdefault(server.address, server)
        if not servers:
            raise next(answer for answer in found if isinstance(answer, SeedbedError))
        return list(servers.values())

    def __str__(self) -> str:
        return ",".join(map(str, self.names))


async def _servers_of(name: ServerName) -> list[Server]:
    if not name.every:
        return [Server(name.address)]
    return [Server(Address(host, name.address.port), name.address.host) for host in await look_up(name.address)]
