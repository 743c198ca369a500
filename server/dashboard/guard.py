"""The gate before every route: methods, hosts, tokens, and what is said to browsers with every answer.

A page elsewhere cannot read the dashboard: there is no CORS header, and a name that leads here by a trick of its
owner's (DNS rebinding) is no `Host` of this server.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seedbed.common.address import is_loopback
from seedbed.common.certificates import names_of
from seedbed.common.credentials import AUTHORIZATION_KEY, Tokens

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_METHODS = ("GET", "HEAD")


class Hosts:
    """The names by which a server may be called in `Host`."""

    def __init__(self, listening: str, certificate_names: Iterable[str] = ()) -> None:
        """Works the names out.

        Args:
            listening: the host that the server listens on.
            certificate_names: in its certificate: with TLS nobody else gets as far as asking.
        """
        self._names = {"localhost", listening.lower().strip("[]")}
        self._names |= {name.lower() for name in certificate_names}
        self._anywhere = listening in ("0.0.0.0", "::")
        if self._anywhere:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def accept(self, host: str, reached: str) -> bool:
        """Whether a `Host` names this server.

        A literal address is never a trick: who listens on all addresses may be reached by ones that others translate.

        Args:
            host: with or without port.
            reached: the address that the connection came to.
        """
        name = _without_port(host).lower()
        if name in self._names or any(_fits(pattern, name) for pattern in self._names if pattern.startswith("*.")):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._anywhere or is_loopback(name) or name == reached


def hosts_of(listening: str, certificate: Path | None, key: Path | None) -> Hosts:
    """The names of a server, those of its certificate among them."""
    return Hosts(listening, names_of(certificate, key) if certificate and key else ())


class Guard:
    """Middleware around the application."""

    def __init__(
        self, app: ASGIApp, *, hosts: Hosts, tokens: Callable[[], Tokens], public: Callable[[str], bool]
    ) -> None:
        """Guards it.

        Args:
            app: the application.
            hosts: names of this server.
            tokens: the ones of this moment; none: nobody needs one.
            public: paths that need none: the page itself, which asks for the token.
        """
        self._app = app
        self._hosts = hosts
        self._tokens = tokens
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        assert scope["type"] == "http", "nothing else is served"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-cache" if self._public(scope["path"]) else "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        reached = (scope.get("server") or ("", 0))[0]
        if len(hosts) != 1 or not self._hosts.accept(hosts[0], reached):
            return _answer(HTTPStatus.MISDIRECTED_REQUEST, "expected a Host that is this server's name or address")
        if scope["method"] not in _METHODS:
            return _answer(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET", {"Allow": ", ".join(_METHODS)})
        tokens = self._tokens()
        if tokens.values and not self._public(scope["path"]):
            shown = [(AUTHORIZATION_KEY, value) for value in headers.getlist(AUTHORIZATION_KEY)]
            if not tokens.accept(shown):
                return _answer(HTTPStatus.UNAUTHORIZED, "expected a valid token", {"WWW-Authenticate": "Bearer"})
        return None


def _answer(status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(text + "\n", status, headers)


def _without_port(host: str) -> str:
    """The name of "name:80" and "[::1]:80"."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and ":" not in name else host


def _fits(pattern: str, name: str) -> bool:
    """Whether "*.example.org" is said of a name: of one more label."""
    return name.partition(".")[2] == pattern[2:] and not name.startswith(".")
