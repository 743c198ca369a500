"""Why a server cannot be reached: name, port, TLS, looked at one after the other with the standard library alone.

gRPC reports most of these as "connection closed". Here each has its own words, and an error class that says whether
trying again can help: AuthError if not, UnavailableError if so.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

from seedbed.common.address import Address
from seedbed.common.certificates import date_fault, read_pair, read_roots, system_roots
from seedbed.common.credentials import ClientCredentials
from seedbed.common.errors import AuthError, SeedbedError, UnavailableError

STEP_TIMEOUT_S = 3.0

# How an HTTP/2 connection begins (RFC 9113, section 3.4), and the header of the answer: a SETTINGS frame, type 4.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_FRAME_HEADER_BYTES = 9
_SETTINGS = 4

# OpenSSL's verify codes (x509_vfy.h).
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = (62, 64)  # of a host, of an IP address

_AGAIN_AFTER_S = 0.5


async def look_up(address: Address) -> list[str]:
    """The IP addresses of a host.

    Raises:
        UnavailableError: there are none.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(STEP_TIMEOUT_S):
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise UnavailableError(f"no name server answered within {STEP_TIMEOUT_S:g} s for {address.host}") from None
    except (OSError, UnicodeError) as error:
        raise UnavailableError(
            f"no address is known for the host {address.host!r} ({error}): is it spelt right?"
        ) from None
    return sorted({str(entry[4][0]) for entry in found})


async def connect(address: Address) -> None:
    """Opens a TCP connection, and closes it.

    Raises:
        UnavailableError: says what is in the way.
    """
    async with _connection(address, None, None):
        pass


async def shake_hands(address: Address, credentials: ClientCredentials) -> None:
    """Begins a connection as a client would, and waits for a server's first words.

    Raises:
        AuthError: the two sides will never agree as they are set up now.
        UnavailableError: no connection, or the other side is no server of gRPC.
    """
    if credentials.uses_tls:
        await _shake_hands_in_tls(address, credentials)
    else:
        await _shake_hands_in_plain(address)


async def find_fault(address: Address, credentials: ClientCredentials) -> SeedbedError | None:
    """What is in the way, if that can be seen from here; its class says whether trying again can help. Never raises."""
    try:
        await shake_hands(address, credentials)
    except SeedbedError as error:
        return error
    return None


async def _shake_hands_in_plain(address: Address) -> None:
    if await _speaks_grpc(address, None, None):
        return
    with contextlib.suppress(ssl.SSLError, UnavailableError):
        async with _connection(address, _trusting(), address.host):
            raise AuthError(
                f"{address} expects TLS, this side has none: give --tls-ca FILE with the certificate of the authority "
                "that signed the server's, or --tls if that is a public one"
            )
    raise UnavailableError(f"{address} takes connections, but is no gRPC server")


async def _shake_hands_in_tls(address: Address, credentials: ClientCredentials) -> None:
    context, name = _context(credentials), credentials.tls_server_name or address.host
    try:
        for attempt in range(2):  # a server that is just being stopped looks like one that wants another certificate
            if await _speaks_grpc(address, context, name):
                return
            if attempt == 0:
                await asyncio.sleep(_AGAIN_AFTER_S)
    except ssl.SSLCertVerificationError as error:
        raise AuthError(await _describe_refusal(address, context, name, error)) from None
    except ssl.SSLError as error:
        if await _speaks_grpc(address, None, None):
            raise AuthError(
                f"{address} speaks without encryption, this side expects TLS: leave out the --tls options, or give the "
                "server --tls-cert and --tls-key"
            ) from None
        raise UnavailableError(f"TLS with {address} failed: {error.reason or error}") from None
    if credentials.tls_cert is None:
        raise AuthError(f"{address} ends connections without a client's certificate: give --tls-cert and --tls-key")
    raise AuthError(
        f"{address} ends connections with this client's certificate: expected one that is signed by the authority in "
        "the server's --tls-client-ca and meant for clients"
    )


async def _describe_refusal(
    address: Address, context: ssl.SSLContext, name: str, error: ssl.SSLCertVerificationError
) -> str:
    """Why this side does not accept the server's certificate, and what to do."""
    whose = f"the certificate of {address}"
    if error.verify_code in _WRONG_NAME:
        names = await _names(address, context)
        return (
            f"{whose} is for {names or 'other names'}, not for {name!r}: connect to one of these, or give "
            "--tls-server-name NAME, or make a certificate for that name"
        )
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        fault = None
        with contextlib.suppress(OSError, UnavailableError, ValueError):
            async with _connection(address, _trusting(), name) as (_, writer):
                fault = date_fault(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        return f"{whose} {fault or error.verify_message}: the server needs a new one"
    return (
        f"{whose} is not signed by an authority that this side trusts ({error.verify_message}): give "
        "--tls-ca FILE with the certificate of the authority that signed it"
    )


async def _names(address: Address, context: ssl.SSLContext) -> str:
    """What names the server's certificate is for, which only a verified one tells."""
    context.check_hostname = False
    with contextlib.suppress(OSError, UnavailableError):
        async with _connection(address, context, address.host) as (_, writer):
            certificate = writer.get_extra_info("peercert") or {}
            return ", ".join(str(value) for _, value in certificate.get("subjectAltName", ()))
    return ""


async def _speaks_grpc(address: Address, context: ssl.SSLContext | None, name: str | None) -> bool:
    """Whether the other side answers the beginning of HTTP/2 with its own; False: it ends the connection instead.

    Raises:
        ssl.SSLError: TLS was refused by either side.
        UnavailableError: there is no connection, or no answer in time.
    """
    async with _connection(address, context, name) as (reader, writer):
        writer.write(_PREFACE)
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                answer = await reader.read(_FRAME_HEADER_BYTES)
        except TimeoutError:
            raise UnavailableError(f"{address} takes connections, but says nothing") from None
        except ConnectionError:
            return False
        return len(answer) > 3 and answer[3] == _SETTINGS


@contextlib.asynccontextmanager
async def _connection(
    address: Address, context: ssl.SSLContext | None, name: str | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        async with asyncio.timeout(STEP_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                address.host, address.port, ssl=context, server_hostname=name if context else None
            )
    except ssl.SSLError:
        raise
    except ConnectionRefusedError:
        raise UnavailableError(f"nobody listens on {address}: is the server running, and is this its port?") from None
    except TimeoutError:
        raise UnavailableError(
            f"{address} does not answer within {STEP_TIMEOUT_S:g} s: a firewall on the way, or a machine that is down?"
        ) from None
    except ConnectionError:  # with words of the system or with none, as the race between the two sides ends
        raise UnavailableError(f"{address} ends connections at once: is it a gRPC server, and does it run?") from None
    except OSError as error:
        raise UnavailableError(f"no connection to {address}: {error.strerror or error}") from None
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _context(credentials: ClientCredentials) -> ssl.SSLContext:
    """What a client's handshake shows and demands, from the files as they are now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])  # gRPC demands it
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as gRPC does: any certificate may be a root
    roots = read_roots(credentials.tls_ca) if credentials.tls_ca else system_roots()
    if roots is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=roots.decode("ascii", "ignore"))
    if credentials.tls_cert is not None and credentials.tls_key is not None:
        read_pair(credentials.tls_cert, credentials.tls_key)
        context.load_cert_chain(credentials.tls_cert, credentials.tls_key)
    return context


def _trusting() -> ssl.SSLContext:
    """Accepts any certificate: only to look at it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
