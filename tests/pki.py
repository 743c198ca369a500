"""A certificate authority that lives as long as a test, made by the program `openssl`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

LOOPBACK = "DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its key."""

    certificate: Path
    key: Path

    def copy_to(self, other: Pair) -> None:
        """Replaces another pair's files, one after the other, as an administrator does."""
        other.certificate.write_bytes(self.certificate.read_bytes())
        other.key.write_bytes(self.key.read_bytes())


class Authority:
    """Signs certificates.

    Attributes:
        certificate: its own, which peers must trust.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self.certificate, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        subject = ("-subj", f"/CN={name}", "-days", "30")
        _openssl("req", "-x509", *_KEY, *subject, "-keyout", self._key, "-out", self.certificate)

    def sign(self, name: str, hosts: str = LOOPBACK, *, days: int = 30, usage: str = "") -> Pair:
        """A new pair.

        Args:
            name: of its files.
            hosts: as OpenSSL writes them, e.g. "DNS:example.org,IP:192.0.2.7"; empty: none.
            days: valid from now on; negative: it has expired.
            usage: what it is for, e.g. "serverAuth"; empty: anything.
        """
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        _openssl("req", *_KEY, "-subj", f"/CN={name}", "-keyout", pair.key, "-out", request)
        lines = ([f"subjectAltName={hosts}"] if hosts else []) + ([f"extendedKeyUsage={usage}"] if usage else [])
        extensions.write_text("".join(f"{line}\n" for line in lines))
        signer = ("-CA", self.certificate, "-CAkey", self._key, "-set_serial", str(id(pair)))
        _openssl(
            "x509", "-req", "-in", request, *signer, "-days", days, "-extfile", extensions, "-out", pair.certificate
        )
        return pair


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)
