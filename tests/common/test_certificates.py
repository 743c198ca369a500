"""Certificates of a throw-away authority, and files that are none."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from seedbed.common.certificates import (
    date_fault,
    first_certificate,
    names_of,
    read_pair,
    read_roots,
    system_roots,
    validity,
)
from seedbed.common.errors import AuthError
from tests.pki import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def test_a_pair_that_fits(authority: Authority) -> None:
    pair = authority.sign("fits")
    assert read_pair(pair.certificate, pair.key) == (pair.certificate.read_bytes(), pair.key.read_bytes())
    assert read_roots(authority.certificate) == authority.certificate.read_bytes()
    assert names_of(pair.certificate, pair.key) == ["localhost", "127.0.0.1"]


def test_a_chain_is_known_by_its_first_certificate(authority: Authority, tmp_path: Path) -> None:
    pair = authority.sign("chain", "DNS:first.example")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"# made today\n" + pair.certificate.read_bytes() + authority.certificate.read_bytes())
    assert names_of(chain, pair.key) == ["first.example"]
    assert first_certificate(chain.read_bytes()) == ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


def test_a_certificate_for_nobody(authority: Authority) -> None:
    pair = authority.sign("nobody", "")
    with pytest.raises(AuthError, match="subjectAltName"):
        names_of(pair.certificate, pair.key)


def test_dates(authority: Authority) -> None:
    now = datetime.now(UTC)
    certificate = first_certificate(authority.sign("dates", days=30).certificate.read_bytes())
    begin, end = validity(certificate)
    assert abs(begin - now) < timedelta(minutes=5)
    assert end - begin == timedelta(days=30)
    assert date_fault(certificate) is None
    assert str(date_fault(certificate, end + timedelta(seconds=1))).startswith(f"expired on {end:%Y-%m-%d}")
    assert "valid only from" in str(date_fault(certificate, begin - timedelta(seconds=1)))


@pytest.mark.parametrize(
    ("first", "second", "begin", "end"),
    [
        (b"\x17\x0d991231235959Z", b"\x18\x0f20500101000000Z", (1999, 12, 31), (2050, 1, 1)),
        (b"\x18\x0f20600101000000Z", b"\x18\x0f20610101000000Z", (2060, 1, 1), (2061, 1, 1)),
        (b"\x17\x0d000101000000Z", b"\x17\x0d491231235959Z", (2000, 1, 1), (2049, 12, 31)),
        (b"\x17\x0d500101000000Z", b"\x18\x0f99991231235959Z", (1950, 1, 1), (9999, 12, 31)),
    ],
)
def test_both_forms_of_time(
    first: bytes, second: bytes, begin: tuple[int, int, int], end: tuple[int, int, int]
) -> None:
    """RFC 5280, 4.1.2.5: two digits of a year up to 2049, four from then on."""
    found = validity(b"\x30\x82..." + first + second + b"...")
    assert [(time.year, time.month, time.day) for time in found] == [begin, end]
    with pytest.raises(ValueError, match="DER"):
        validity(first)


def test_an_expired_pair(authority: Authority) -> None:
    pair = authority.sign("old", days=-1)
    with pytest.raises(AuthError, match=r"valid now in .*old\.pem, it expired on 20"):
        read_pair(pair.certificate, pair.key)


def test_pairs_that_do_not_fit(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.sign("one"), authority.sign("other")
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for certificate, key in [
        (one.certificate, other.key),
        (junk, one.key),
        (one.certificate, junk),
        (one.certificate, one.certificate),
    ]:
        with pytest.raises(AuthError, match="expected a certificate in"):
            read_pair(certificate, key)
    with pytest.raises(AuthError, match=r"nowhere.pem, which cannot be read: No such file"):
        read_pair(tmp_path / "nowhere.pem", one.key)


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAA==\n"])
def test_roots_that_are_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_bytes(content)
    with pytest.raises(AuthError, match=r"expected certificates in PEM form in .*roots.pem"):
        read_roots(tmp_path / "roots.pem")


def test_system_roots_follow_the_variable_of_openssl(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    assert system_roots() == authority.certificate.read_bytes()
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    assert system_roots() is None
