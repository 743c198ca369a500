"""Who may take part in a run, and over what kind of connection: tokens, TLS, and what may be insecure where.

Knows no gRPC: the client's connection, the server's frontends and `seedbed doctor` make of this what they need.

A token never stands on a command line, where every user of the machine could read it: it comes from a file or from the
environment variable SEEDBED_TOKEN. Files may be replaced at any time; they are read again when they have changed.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from seedbed.common.address import Address, is_loopback
from seedbed.common.certificates import read_pair, read_roots, system_roots
from seedbed.common.errors import AuthError, SeedbedError, UsageError
from seedbed.common.options import option

_log = logging.getLogger(__name__)

TOKEN_VARIABLE = "SEEDBED_TOKEN"
AUTHORIZATION_KEY = "authorization"
"""Metadata key of every call; its value is "Bearer TOKEN" (RFC 6750)."""

_SCHEME = "Bearer "
_MIN_TOKEN_CHARACTERS = 16
_MAX_TOKEN_CHARACTERS = 512
_TOKEN_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-._~+/=")  # RFC 6750, section 2.1
_MAX_TOKENS = 2  # the one in use and, while it is replaced, the next

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """connection"""

    token_file: Path | None = option(
        None, f"file with the server's token; the environment variable {TOKEN_VARIABLE} unless given"
    )
    tls: bool = option(False, "encrypt; the server's certificate must be signed by an authority this system trusts")
    tls_ca: Path | None = option(None, "encrypt; certificate of the authority (PEM) that signed the server's")
    tls_cert: Path | None = option(None, "this client's certificate (PEM), for servers that ask for one")
    tls_key: Path | None = option(None, "private key (PEM) of --tls-cert")
    tls_server_name: str | None = option(
        None, "name in the server's certificate, where it is not the host in --server", metavar="NAME"
    )
    insecure: bool = option(False, "send the token without encryption beyond this machine")

    def __post_init__(self) -> None:
        _check_pair(self.tls_cert, self.tls_key)
        if self.tls_server_name and not self.uses_tls:
            raise UsageError("expected --tls or --tls-ca beside --tls-server-name")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted: as soon as any option speaks of TLS."""
        return self.tls or self.tls_ca is not None or self.tls_cert is not None

    @property
    def files(self) -> tuple[Path, ...]:
        """What TLS depends on."""
        return tuple(path for path in (self.tls_ca, self.tls_cert, self.tls_key) if path is not None)

    def read_tls(self) -> TlsMaterial | None:
        """What a handshake needs, or None without TLS.

        Raises:
            AuthError: a file is missing, broken or expired.
        """
        if not self.uses_tls:
            return None
        roots = read_roots(self.tls_ca) if self.tls_ca else system_roots()
        if self.tls_cert is None or self.tls_key is None:
            return TlsMaterial(roots=roots)
        certificate, key = read_pair(self.tls_cert, self.tls_key)
        return TlsMaterial(roots=roots, certificate=certificate, key=key)

    def check(self, address: Address, tokens: Sequence[str]) -> None:
        """Refuses to show a token to whoever can listen on the way.

        Raises:
            UsageError: there is a token, no TLS, and `address` is beyond this machine.
        """
        if tokens and not (self.uses_tls or self.insecure or address.is_loopback):
            raise UsageError(
                f"expected TLS (--tls-ca FILE or --tls) to send a token to {address}: without, everybody on the way "
                "could read it; --insecure sends it all the same"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCredentials:
    """credentials of clients"""

    token_file: Path | None = option(
        None,
        f"file with the token that clients must show, or two, both valid; the variable {TOKEN_VARIABLE} unless given",
    )
    tls_cert: Path | None = option(None, "this server's certificate (PEM), with what leads to its authority")
    tls_key: Path | None = option(None, "private key (PEM) of --tls-cert")
    tls_client_ca: Path | None = option(
        None, "demand a certificate of every client; that of the authority (PEM) which signs them"
    )
    max_connection_age_s: float | None = option(
        None,
        "clients connect again, and show token and certificate again, after so long; never unless given",
        minimum=1,
    )
    insecure: bool = option(False, "allow an address beyond loopback without TLS and token")

    def __post_init__(self) -> None:
        _check_pair(self.tls_cert, self.tls_key)
        if self.tls_client_ca and not self.tls_cert:
            raise UsageError("expected --tls-cert and --tls-key beside --tls-client-ca")

    @property
    def files(self) -> tuple[Path, ...]:
        """What TLS depends on."""
        return tuple(path for path in (self.tls_cert, self.tls_key, self.tls_client_ca) if path is not None)

    def read_tls(self) -> TlsMaterial | None:
        """What a handshake needs, or None without TLS; `roots` are those of the clients' certificates.

        Raises:
            AuthError: a file is missing, broken or expired.
        """
        if self.tls_cert is None or self.tls_key is None:
            return None
        certificate, key = read_pair(self.tls_cert, self.tls_key)
        roots = read_roots(self.tls_client_ca) if self.tls_client_ca else None
        return TlsMaterial(roots=roots, certificate=certificate, key=key)

    def verify(self, host: str, what: str = "take part in this run") -> None:
        """All that can be checked before anything starts; raises what `check`, `read_tls` and `watch_tokens` raise."""
        self.check(host, watch_tokens(self.token_file).get().values, what)
        self.read_tls()

    def check(self, host: str, tokens: Sequence[str], what: str = "take part in this run") -> None:
        """Refuses to expose a server that everybody could use, or whose clients everybody could listen to.

        Args:
            host: to listen on.
            tokens: that are demanded.
            what: everybody who reaches the host could do.

        Raises:
            UsageError: `host` is beyond loopback, and there is not both: TLS, and a token or certificates of clients.
        """
        missing = ["TLS (--tls-cert, --tls-key)"] * (self.tls_cert is None)
        missing += [f"a token (--token-file or {TOKEN_VARIABLE})"] * (not tokens and self.tls_client_ca is None)
        if missing and not self.insecure and not is_loopback(host):
            raise UsageError(
                f"expected {' and '.join(missing)} to listen on {host}, or a loopback address, or --insecure: "
                f"everybody who reaches that address could {what}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """PEM data for a handshake.

    Attributes:
        roots: the authorities that the peer's certificate must come from; None: gRPC's own list, or none is demanded.
        certificate, key: what this side shows, if anything.
    """

    roots: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None


class Tokens:
    """The tokens of one moment."""

    def __init__(self, values: Sequence[str]) -> None:
        self.values = tuple(values)
        self._digests = [_digest(value) for value in values]

    def accept(self, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
        """Whether a call's metadata carry exactly one token, and a valid one.

        How long this takes tells nothing: digests of equal length are compared in constant time, each with all.
        """
        shown = [value for key, value in metadata if key == AUTHORIZATION_KEY]
        if len(shown) != 1 or not isinstance(shown[0], str) or not shown[0].startswith(_SCHEME):
            return False
        digest = _digest(shown[0].removeprefix(_SCHEME))
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a client sends with every call: its first token, if it has one."""
        return tuple((AUTHORIZATION_KEY, _SCHEME + value) for value in self.values[:1])


class Reloaded(Generic[T]):
    """Something made of files, and made again when one of them has changed.

    A change that cannot be used (a file half written, a certificate without its key) is logged, and what was made
    before stays in use.
    """

    def __init__(self, paths: Sequence[Path], make: Callable[[], T]) -> None:
        """Makes it for the first time; raises what `make` raises."""
        self._paths = paths
        self._make = make
        self._signature = self._sign()
        self._value = make()

    def get(self) -> T:
        """The newest."""
        signature = self._sign()
        if signature != self._signature:
            self._signature = signature  # before it is read: what changes meanwhile is read once more
            try:
                self._value = self._make()
                _log.info("read %s again", ", ".join(map(str, self._paths)))
            except SeedbedError as error:
                _log.error("keeping the old credentials: %s", error)
        return self._value

    def _sign(self) -> list[tuple[int, int, int] | None]:
        return [_signature_of(path) for path in self._paths]


def watch_tokens(file: Path | None) -> Reloaded[Tokens]:
    """The tokens in a file, or else in SEEDBED_TOKEN, or else none.

    Raises:
        AuthError: the file cannot be read, or what is there are no tokens.
    """
    return Reloaded([] if file is None else [file], lambda: Tokens(_read_tokens(file)))


def _read_tokens(file: Path | None) -> list[str]:
    where = TOKEN_VARIABLE if file is None else str(file)
    if file is None:
        text = os.environ.get(TOKEN_VARIABLE, "")
        if not text:
            return []
    else:
        try:
            text = file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no plain text"
            raise AuthError(f"expected a token in {file}, which cannot be read: {reason}") from None
    tokens = text.split()
    if not 1 <= len(tokens) <= _MAX_TOKENS:
        raise AuthError(f"expected one token, or two lines with one each, in {where}, found {len(tokens)}")
    for token in tokens:  # never shown, not even a wrong one
        if not _MIN_TOKEN_CHARACTERS <= len(token) <= _MAX_TOKEN_CHARACTERS or not set(token) <= _TOKEN_CHARACTERS:
            raise AuthError(
                f"expected a token of {_MIN_TOKEN_CHARACTERS} to {_MAX_TOKEN_CHARACTERS} letters, digits and -._~+/= "
                f"in {where}, as `openssl rand -hex 32` makes them, found something else"
            )
    return tokens


def _check_pair(certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) != (key is None):
        raise UsageError(f"expected --tls-cert and --tls-key together, got --tls-{'key' if key else 'cert'} alone")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _signature_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
