"""What --server says: one server, a list, all addresses of a name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from seedbed.common import server_list
from seedbed.common.address import Address
from seedbed.common.credentials import ClientCredentials
from seedbed.common.errors import UnavailableError, UsageError
from seedbed.common.server_list import Server, ServerList


def give(monkeypatch: pytest.MonkeyPatch, hosts: dict[str, list[str]]) -> None:
    """A name server of the test's own."""

    async def look_up(address: Address) -> list[str]:
        if address.host not in hosts:
            raise UnavailableError(f"no address is known for the host {address.host!r}")
        return hosts[address.host]

    monkeypatch.setattr(server_list, "look_up", look_up)


def servers(text: str) -> list[Server]:
    return asyncio.run(ServerList.parse(text).servers())


@pytest.mark.parametrize("text", ["h:1", "[::1]:7777", "h:1,h:2", "dns:servers:7777", "dns:[::1]:7", "a:1,dns:b:2"])
def test_it_reads_what_it_writes(text: str) -> None:
    assert str(ServerList.parse(text)) == text
    assert ServerList.parse(text) == ServerList.parse(text.replace(",", " , "))


def test_one_server_is_never_looked_up() -> None:
    assert ServerList.parse("far.example:7").only == Address("far.example", 7)
    assert ServerList.parse("dns:7777").only == Address("dns", 7777)
    for text in ("a:1,b:1", "dns:a:1"):
        assert ServerList.parse(text).only is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected HOST:PORT"),
        ("a:1,", "empty part"),
        (",", "empty part"),
        ("a:1,b", "got 'b'"),
        ("a:1,b:0", "got 'b:0'"),
        ("a:1 b:2", "got 'a:1 b:2'"),
        ("a:1,a:1", "a:1 twice"),
        ("dns:servers", "got 'dns:servers'"),
        ("dns:servers:x", "got 'servers:x'"),
        ("dns:///servers:7777", "expected dns:NAME:PORT"),
        ("http://a:1,b:2", "got 'http://a:1'"),
    ],
)
def test_what_is_refused_and_why(text: str, words: str) -> None:
    with pytest.raises(UsageError, match="expected") as caught:
        ServerList.parse(text)
    assert words in str(caught.value)


def test_every_address_of_a_name_is_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, {"pods": ["10.0.0.1", "10.0.0.2", "2001:db8::7"]})
    assert [str(server.address) for server in servers("dns:pods:7")] == ["10.0.0.1:7", "10.0.0.2:7", "[2001:db8::7]:7"]
    assert [str(server.address) for server in servers("10.0.0.2:7,dns:pods:7")] == [
        "10.0.0.2:7",
        "10.0.0.1:7",
        "[2001:db8::7]:7",
    ]
    with pytest.raises(UnavailableError, match="nowhere"):
        servers("dns:nowhere:7")
    assert len(servers("dns:nowhere:7,b:7")) == 1  # as long as one is known


def test_a_certificate_is_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, {"pods": ["10.0.0.1"]})
    [found] = servers("dns:pods:7")
    assert found.credentials(ClientCredentials(tls=True)).tls_server_name == "pods"
    assert found.credentials(ClientCredentials(tls=True, tls_server_name="other")).tls_server_name == "other"
    assert found.credentials(ClientCredentials()).tls_server_name is None
    [plain] = servers("pods:7")
    assert plain.credentials(ClientCredentials(tls=True)).tls_server_name is None


def test_a_token_is_shown_to_none_of_them_unencrypted() -> None:
    ServerList.parse("127.0.0.1:1,dns:localhost:2").check(ClientCredentials(), ["secret"])
    for text in ("127.0.0.1:1,far.example:2", "dns:far.example:1"):
        with pytest.raises(UsageError, match="expected TLS"):
            ServerList.parse(text).check(ClientCredentials(), ["secret"])
        ServerList.parse(text).check(ClientCredentials(tls_ca=Path("ca.pem")), ["secret"])
