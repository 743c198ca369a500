"""Certificates and keys in PEM files: read, checked as far as one side alone can, and described for people.

A wrong file is told when the program starts, not by a handshake that fails an hour later on another machine.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seedbed.common.errors import AuthError

# DER of a Validity: two times, each UTCTime (tag 23, "YYMMDDHHMMSSZ") or GeneralizedTime (24, "YYYYMMDDHHMMSSZ").
_VALIDITY = re.compile(rb"(?:\x17\x0d|\x18\x0f)(\d{12,14})Z(?:\x17\x0d|\x18\x0f)(\d{12,14})Z")


def read_roots(path: Path) -> bytes:
    """The certificates of a certificate authority, as PEM.

    Raises:
        AuthError: the file cannot be read, or holds none.
    """
    data = _read(path, "certificates")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=data.decode("ascii"))
    except (ssl.SSLError, ValueError):  # ValueError: empty, or no ASCII
        raise AuthError(f"expected certificates in PEM form in {path}, found none") from None
    return data


def read_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """A certificate (with what leads to its authority, if anything) and its key, as PEM.

    Raises:
        AuthError: a file cannot be read, the two do not belong together, or the certificate is not valid now.
    """
    pair = _read(certificate, "a certificate"), _read(key, "a private key")
    try:
        # An encrypted key would make OpenSSL ask for its password on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
        fault = date_fault(first_certificate(pair[0]))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or str(error)
        raise AuthError(
            f"expected a certificate in {certificate} and its key, unencrypted, in {key}: {reason}"
        ) from None
    if fault is not None:
        raise AuthError(f"expected a certificate that is valid now in {certificate}, it {fault}")
    return pair


def first_certificate(pem: bytes) -> bytes:
    """DER of the first certificate in PEM data that was checked before."""
    text = pem.decode("ascii", "replace")
    begin, end = text.index(ssl.PEM_HEADER), text.index(ssl.PEM_FOOTER)
    return ssl.PEM_cert_to_DER_cert(text[begin:end] + ssl.PEM_FOOTER)


def validity(certificate: bytes) -> tuple[datetime, datetime]:
    """From when to when a certificate in DER form is valid.

    Raises:
        ValueError: it is none.
    """
    found = _VALIDITY.search(certificate)
    if found is None:
        raise ValueError("expected a certificate in DER form")
    begin, end = (_read_time(text.decode("ascii")) for text in found.groups())
    return begin, end


def date_fault(certificate: bytes, now: datetime | None = None) -> str | None:
    """What is wrong with a certificate's dates, e.g. "expired on 2026-11-20 14:28 UTC", or None."""
    begin, end = validity(certificate)
    now = now or datetime.now(UTC)
    if now > end:
        return f"expired on {end:%Y-%m-%d %H:%M} UTC"
    if now < begin:
        return f"is valid only from {begin:%Y-%m-%d %H:%M} UTC (is the clock of this machine right?)"
    return None


def names_of(certificate: Path, key: Path) -> list[str]:
    """The host names and IP addresses that a certificate is for.

    The standard library reads a certificate only when a peer shows it: so it is shown, to ourselves.

    Raises:
        AuthError: it is for none, so that no client could ever verify it.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key, password="")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # its own root
    client.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(first_certificate(certificate.read_bytes())))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (ours, theirs, ours):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    described = ours.getpeercert() or {}
    names: Any = described.get("subjectAltName", ())
    if not names:
        raise AuthError(
            f"expected host names or addresses (subjectAltName) in the certificate {certificate}, found none"
        )
    return [str(value) for _, value in names]


def system_roots() -> bytes | None:
    """The certificate authorities that this machine trusts; None where they are not in one file."""
    paths = ssl.get_default_verify_paths()
    # A Debian system has no `cafile`, but this file beside the single certificates in `capath`.
    candidates = [paths.cafile, paths.capath and f"{paths.capath}/ca-certificates.crt"]
    return next((Path(path).read_bytes() for path in candidates if path and Path(path).is_file()), None)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AuthError(f"expected {what} in {path}, which cannot be read: {error.strerror}") from None


def _read_time(text: str) -> datetime:
    # RFC 5280, 4.1.2.5.1: years 50 to 99 of a UTCTime are of the last century.
    century = "" if len(text) == 14 else "19" if text >= "50" else "20"
    return datetime.strptime(century + text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
