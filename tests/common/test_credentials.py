"""Tokens, their rotation, and what may be insecure where."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from seedbed.common.address import Address
from seedbed.common.credentials import (
    TOKEN_VARIABLE,
    ClientCredentials,
    Reloaded,
    ServerCredentials,
    Tokens,
    watch_tokens,
)
from seedbed.common.errors import AuthError, UsageError

OLD, NEW = "0123456789abcdef", "fedcba9876543210"
FILE = Path("some.pem")
FAR, NEAR = Address("192.0.2.7", 7777), Address("127.0.0.1", 7777)


@pytest.fixture(autouse=True)
def without_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


def bearer(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


@pytest.mark.parametrize("token", [OLD, NEW])
def test_each_of_two_tokens_is_accepted(token: str) -> None:
    assert Tokens([OLD, NEW]).accept([("user-agent", "x"), bearer(token)])


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [bearer("")],
        [bearer(OLD[:-1])],
        [bearer(OLD + "0")],
        [bearer(OLD.upper())],
        [bearer(OLD + NEW)],
        [("authorization", OLD)],
        [("authorization", f"Basic {OLD}")],
        [("authorization", f"bearer {OLD}")],
        [("authorization", f"Bearer  {OLD}")],
        [("x-token", f"Bearer {OLD}")],
        [bearer(OLD), bearer(OLD)],
        [bearer("wrong"), bearer(OLD)],
        [("authorization", f"Bearer {OLD}".encode())],
    ],
)
def test_anything_else_is_refused(metadata: list[Any]) -> None:
    assert not Tokens([OLD, NEW]).accept(metadata)
    assert not Tokens([]).accept(metadata)


def test_tokens_are_compared_with_all_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("seedbed.common.credentials.hmac.compare_digest", compare)
    assert Tokens([OLD, NEW]).accept([bearer(OLD)])
    assert not Tokens([OLD, NEW]).accept([bearer("x")])
    assert compared == [(32, 32)] * 4  # digests: neither the length of a token nor the first match shows


def test_a_client_shows_its_first_token() -> None:
    assert Tokens([NEW, OLD]).metadata == (bearer(NEW),)
    assert Tokens([]).metadata == ()


def test_tokens_from_the_file_from_the_variable_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch_tokens(None).get().values == ()
    monkeypatch.setenv(TOKEN_VARIABLE, OLD)
    assert watch_tokens(None).get().values == (OLD,)
    file = tmp_path / "token"
    file.write_text(f"\n  {NEW}\n\n")
    assert watch_tokens(file).get().values == (NEW,)


def test_rotation_without_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The old one, both, the new one; then a file that is no use, which changes nothing."""
    file = tmp_path / "token"
    file.write_text(OLD)
    tokens = watch_tokens(file)
    for content, values in [(f"{NEW}\n{OLD}\n", (NEW, OLD)), (NEW, (NEW,)), ("", (NEW,)), ("short", (NEW,))]:
        file.write_text(content)
        assert tokens.get().values == values
    assert "keeping the old credentials" in caplog.text
    file.unlink()
    assert tokens.get().values == (NEW,)
    file.write_text(OLD)
    assert tokens.get().values == (OLD,)
    assert not any(token in caplog.text for token in (OLD, NEW, "short"))


def test_a_file_replaced_by_another_is_noticed(tmp_path: Path) -> None:
    """Even when size and times are the same, as for a link that now leads to another file."""
    file, other = tmp_path / "token", tmp_path / "other"
    file.write_text(OLD)
    tokens = watch_tokens(file)
    other.write_text(NEW)
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.rename(file)
    assert tokens.get().values == (NEW,)


def test_what_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("1")

    def make() -> str:
        text = file.read_text()
        if text == "2":
            file.write_text("333")
        return text

    value = Reloaded([file], make)
    file.write_text("2")
    assert (value.get(), value.get()) == ("2", "333")


def test_an_unchanged_file_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file, made = tmp_path / "file", []
    file.write_text("1")
    value = Reloaded([file], lambda: made.append(1) or len(made))  # type: ignore[func-returns-value]
    assert [value.get() for _ in range(5)] == [1] * 5
    file.write_text("22")
    assert [value.get() for _ in range(5)] == [2] * 5
    assert caplog.text.count("again") == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\n \n", b"short", b"x" * 513, b"a b", b"sixteen_letters!", b"\xff" * 20, f"{OLD}\n{OLD}\n{OLD}".encode()],
)
def test_files_without_a_token_never_show_what_is_in_them(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(AuthError, match=r"expected .*token") as caught:
        watch_tokens(file)
    assert not content.strip() or content.strip().decode("latin-1") not in str(caught.value)


def test_a_token_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AuthError, match=r"nowhere, which cannot be read: No such file"):
        watch_tokens(tmp_path / "nowhere")


TLS = {"tls_cert": FILE, "tls_key": FILE}


@pytest.mark.parametrize(
    ("options", "tokens", "missing"),
    [
        ({}, [], ["TLS", "a token"]),
        (TLS, [], ["a token"]),
        ({}, [OLD], ["TLS"]),
        (TLS, [OLD], []),
        (TLS | {"tls_client_ca": FILE}, [], []),
        ({"insecure": True}, [], []),
    ],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "train.example.org", ""])
def test_a_server_beyond_loopback(options: dict[str, Any], tokens: list[str], missing: list[str], host: str) -> None:
    credentials = ServerCredentials(**options)
    if not missing:
        credentials.check(host, tokens)
        return
    with pytest.raises(UsageError) as caught:
        credentials.check(host, tokens)
    assert all((what in str(caught.value)) == (what in missing) for what in ("TLS", "a token"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_server_on_loopback_may_do_without(host: str) -> None:
    ServerCredentials().check(host, [])


@pytest.mark.parametrize(
    ("options", "tokens", "address", "refused"),
    [
        ({}, [OLD], FAR, True),
        ({}, [OLD], Address("example.org", 1), True),
        ({}, [OLD], NEAR, False),
        ({}, [], FAR, False),
        ({"tls": True}, [OLD], FAR, False),
        ({"tls_ca": FILE}, [OLD], FAR, False),
        ({"insecure": True}, [OLD], FAR, False),
    ],
)
def test_a_client_shows_its_token_to_nobody_on_the_way(
    options: dict[str, Any], tokens: list[str], address: Address, refused: bool
) -> None:
    credentials = ClientCredentials(**options)
    if refused:
        with pytest.raises(UsageError, match="expected TLS"):
            credentials.check(address, tokens)
    else:
        credentials.check(address, tokens)


@pytest.mark.parametrize(
    ("options", "uses_tls"),
    [({}, False), ({"tls": True}, True), ({"tls_ca": FILE}, True), (TLS, True), ({"insecure": True}, False)],
)
def test_any_option_of_tls_means_tls(options: dict[str, Any], uses_tls: bool) -> None:
    assert ClientCredentials(**options).uses_tls is uses_tls


@pytest.mark.parametrize(
    ("cls", "options", "words"),
    [
        (ClientCredentials, {"tls_cert": FILE}, "--tls-cert and --tls-key together, got --tls-cert alone"),
        (ClientCredentials, {"tls_key": FILE}, "got --tls-key alone"),
        (ServerCredentials, {"tls_cert": FILE}, "got --tls-cert alone"),
        (ServerCredentials, {"tls_client_ca": FILE}, "beside --tls-client-ca"),
        (ClientCredentials, {"tls_server_name": "x"}, "beside --tls-server-name"),
    ],
)
def test_options_that_belong_together(cls: type[Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        cls(**options)
