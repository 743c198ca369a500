"""What is wrong with a connection, against real gRPC servers and other programs on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from seedbed.common import diagnosis
from seedbed.common.address import Address
from seedbed.common.credentials import ClientCredentials
from seedbed.common.diagnosis import connect, find_fault, look_up, shake_hands
from seedbed.common.errors import AuthError, SeedbedError, UnavailableError
from tests.pki import Authority, Pair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "stranger")


@contextmanager
def grpc_server(pair: Pair | None = None, clients: Authority | None = None) -> Iterator[Address]:
    """A server without any service."""
    server = grpc.server(ThreadPoolExecutor(1))
    if pair is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        roots = clients.certificate.read_bytes() if clients else None
        secrets = grpc.ssl_server_credentials(
            [(pair.key.read_bytes(), pair.certificate.read_bytes())], roots, require_client_auth=clients is not None
        )
        port = server.add_secure_port("127.0.0.1:0", secrets)
    server.start()
    try:
        yield Address("127.0.0.1", port)
    finally:
        server.stop(None).wait()


def fault(address: Address, credentials: ClientCredentials) -> SeedbedError | None:
    """What `shake_hands` says, and that `find_fault` says the same."""

    async def both() -> SeedbedError | None:
        found: SeedbedError | None = None
        try:
            await shake_hands(address, credentials)
        except SeedbedError as error:
            found = error
        assert repr(await find_fault(address, credentials)) == repr(found)
        return found

    return asyncio.run(both())


def assert_permanent(found: SeedbedError | None, *words: str) -> None:
    assert isinstance(found, AuthError), repr(found)
    missing = [word for word in words if word not in str(found)]
    assert not missing, f"expected {missing} in {found}"


def test_nothing_wrong(authority: Authority) -> None:
    trusting = ClientCredentials(tls_ca=authority.certificate)
    with grpc_server(authority.sign("well")) as address:
        assert fault(address, trusting) is None
        assert fault(Address("localhost", address.port), trusting) is None
    with grpc_server() as address:
        assert fault(address, ClientCredentials()) is None


def test_an_expired_certificate(authority: Authority) -> None:
    with grpc_server(authority.sign("expired", days=-1)) as address:
        found = fault(address, ClientCredentials(tls_ca=authority.certificate))
        assert_permanent(found, str(address), "expired on 20", "UTC", "the server needs a new one")


def test_a_certificate_of_another_authority(authority: Authority, stranger: Authority) -> None:
    with grpc_server(stranger.sign("strange")) as address:
        found = fault(address, ClientCredentials(tls_ca=authority.certificate))
        assert_permanent(found, "not signed by an authority that this side trusts", "--tls-ca FILE")


def test_a_certificate_for_another_host(authority: Authority) -> None:
    ca = authority.certificate
    with grpc_server(authority.sign("elsewhere", "DNS:gpu.example,IP:192.0.2.7")) as address:
        found = fault(address, ClientCredentials(tls_ca=ca))
        assert_permanent(found, "is for gpu.example, 192.0.2.7", "not for '127.0.0.1'", "--tls-server-name")
        assert fault(address, ClientCredentials(tls_ca=ca, tls_server_name="gpu.example")) is None


def test_plaintext_to_a_tls_port(authority: Authority) -> None:
    with grpc_server(authority.sign("secure")) as address:
        assert_permanent(fault(address, ClientCredentials()), "expects TLS, this side has none", "--tls-ca FILE")


def test_tls_to_a_plaintext_port(authority: Authority) -> None:
    with grpc_server() as address:
        found = fault(address, ClientCredentials(tls_ca=authority.certificate))
        assert_permanent(found, "speaks without encryption", "leave out the --tls options")


def test_certificates_of_clients(authority: Authority, stranger: Authority) -> None:
    mine, foreign = authority.sign("mine"), stranger.sign("foreign")
    ca = authority.certificate
    with grpc_server(authority.sign("demanding"), clients=authority) as address:
        assert fault(address, ClientCredentials(tls_ca=ca, tls_cert=mine.certificate, tls_key=mine.key)) is None
        assert_permanent(fault(address, ClientCredentials(tls_ca=ca)), "without a client's certificate", "--tls-cert")
        found = fault(address, ClientCredentials(tls_ca=ca, tls_cert=foreign.certificate, tls_key=foreign.key))
        assert_permanent(found, "this client's certificate", "--tls-client-ca")
        server = authority.sign("a-server", usage="serverAuth")
        found = fault(address, ClientCredentials(tls_ca=ca, tls_cert=server.certificate, tls_key=server.key))
        assert_permanent(found, "this client's certificate", "--tls-client-ca")
        client = authority.sign("a-client", "", usage="clientAuth")
        assert fault(address, ClientCredentials(tls_ca=ca, tls_cert=client.certificate, tls_key=client.key)) is None
        assert_permanent(fault(address, ClientCredentials()), "expects TLS")


def test_files_that_are_broken_now(authority: Authority, tmp_path: Path) -> None:
    old = authority.sign("old", days=-1)
    with grpc_server(authority.sign("fine")) as address:
        assert_permanent(fault(address, ClientCredentials(tls_ca=tmp_path / "gone.pem")), "gone.pem")
        mine = ClientCredentials(tls_ca=authority.certificate, tls_cert=old.certificate, tls_key=old.key)
        assert_permanent(fault(address, mine), "old.pem", "expired on 20")


def test_nobody_listens() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", nobody.getsockname()[1])
        for step in (connect(address), shake_hands(address, ClientCredentials())):
            with pytest.raises(UnavailableError, match=f"nobody listens on {address}"):
                asyncio.run(step)


@pytest.mark.parametrize("tls", [False, True])
def test_a_program_that_says_nothing(tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be slow, or overloaded: never a reason to give up."""
    monkeypatch.setattr(diagnosis, "STEP_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address("127.0.0.1", silent.getsockname()[1])
        found = fault(address, ClientCredentials(tls=tls))
        assert isinstance(found, UnavailableError)
        assert str(address) in str(found)


def test_a_program_that_hangs_up_at_once() -> None:
    """As a port forwarder does whose other end is not there."""
    with socket.create_server(("127.0.0.1", 0)) as rude:
        address = Address("127.0.0.1", rude.getsockname()[1])

        def hang_up() -> None:
            while True:
                try:
                    rude.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        for credentials in (ClientCredentials(), ClientCredentials(tls=True)):
            assert isinstance(fault(address, credentials), UnavailableError)
        rude.shutdown(socket.SHUT_RDWR)


def test_names() -> None:
    assert asyncio.run(look_up(Address("127.0.0.1", 1))) == ["127.0.0.1"]
    assert "127.0.0.1" in asyncio.run(look_up(Address("localhost", 1)))
    with pytest.raises(UnavailableError, match=r"no address is known for the host 'nowhere\.invalid'"):
        asyncio.run(look_up(Address("nowhere.invalid", 1)))
