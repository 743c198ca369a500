"""TLS and tokens with real processes: who is let in, who is not and why, and that the others never notice."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest

from seedbed.common.credentials import TOKEN_VARIABLE, ServerCredentials
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub
from tests.common.test_diagnosis import grpc_server
from tests.pki import Authority, Pair
from tests.system.echo import EchoServer
from tests.system.processes import FAST, Program, eventually, run
from tests.system.proxy import Proxy

pytestmark = pytest.mark.system

USAGE, AUTH = 2, 77

FIRST, SECOND = "first-token-of-this-test", "second-token-of-this-test"
ECHO = ("--env", "seedbed/Echo-v0,check=1,step_ms=1")
SOON_S = 5.0
"""For a client that has to connect again, with back-off."""
HEALTHY_WITHIN_S = 1.0
"""Promised to whoever has done nothing wrong, on a machine that has the time."""
USUAL_S = 0.5  # for how long it is looked before a fault how often the healthy client is answered
MOST_TIMES = 10.0  # the gap that was usual: what a fault may make of it where the machine is busy with other things


@dataclass(frozen=True)
class Files:
    """What the server under test reads, and its clients."""

    authority: Authority
    server: Pair
    token: Path
    folder: Path

    @property
    def let_in(self) -> tuple[str | Path, ...]:
        """Options of a client."""
        return ("--tls-ca", self.authority.certificate, "--token-file", self.token)


class Healthy:
    """A client that must never notice anything: it ends with an error as soon as an action is wrong."""

    def __init__(self, echo: EchoServer, program: Program) -> None:
        self._echo = echo
        self.program = program

    def await_progress(self) -> None:
        """Actions arrive, and soon."""
        before = self._episodes
        eventually(lambda: self._episodes > before + 2, "right actions for the healthy client", SOON_S)
        assert self.program.process.poll() is None, self.program.stderr

    def longest_gap_s(self, began_s: float) -> float:
        """Between the ends of two episodes, which have 1 to 16 steps, from a monotonic time until now."""
        ends = zip(list(self._echo.heard_s), list(self._echo.episodes), strict=False)
        heard_s = [at_s for at_s, (index, _) in ends if index == 0 and at_s > began_s]
        return max(later - sooner for sooner, later in pairwise([began_s, *heard_s, time.monotonic()]))

    @property
    def _episodes(self) -> int:
        return sum(index == 0 for index, _ in list(self._echo.episodes))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("credentials")
    authority = Authority(folder)
    (folder / "token").write_text(FIRST)
    return Files(authority, authority.sign("server"), folder / "token", folder)


@pytest.fixture(scope="module")
def echo(files: Files) -> Iterator[EchoServer]:
    credentials = ServerCredentials(token_file=files.token, tls_cert=files.server.certificate, tls_key=files.server.key)
    with EchoServer(num_slots=32, grace_s=10.0, frontends=1, credentials=credentials) as server:
        yield server
    assert server.audit.problems == []
    server.check_account()


@pytest.fixture(scope="module")
def running(echo: EchoServer, files: Files) -> Iterator[Healthy]:
    with Program("env", "--server", echo.address, *ECHO, *files.let_in) as program:
        healthy = Healthy(echo, program)
        eventually(lambda: echo.episodes, "a first episode")
        yield healthy
        program.send(signal.SIGTERM)
        assert program.wait() == 0, program.stderr
        assert program.stderr.count("connected to") == 1, "it had to reconnect"


@pytest.fixture
def unharmed(echo: EchoServer, running: Healthy) -> Iterator[None]:
    """Whoever else comes meanwhile gets no row, and the healthy client its actions, as soon as before."""
    running.await_progress()
    before = echo.server.vitals.total("leases_opened")
    began_s = time.monotonic()
    time.sleep(USUAL_S)
    usual_s, began_s = running.longest_gap_s(began_s), time.monotonic()
    yield
    running.await_progress()
    longest_s = running.longest_gap_s(began_s)
    print(f"longest gap between the healthy client's episodes: {longest_s:.3f} s, before {usual_s:.3f} s")
    assert longest_s < max(HEALTHY_WITHIN_S, MOST_TIMES * usual_s)
    assert echo.server.vitals.total("leases_opened") == before
    assert len(echo.server.service.leases) == 1


def _status(echo: EchoServer, files: Files, method: str, metadata: Any) -> grpc.StatusCode:
    """What a call without a program of ours around it is answered."""
    secrets = grpc.ssl_channel_credentials(files.authority.certificate.read_bytes())
    with grpc.secure_channel(echo.address, secrets) as channel:
        stub = SeedbedStub(channel)
        try:
            match method:
                case "Act":
                    hello = pb.ClientMessage(hello=pb.Hello(client_id="stranger", run_id=1))
                    next(stub.Act(iter([hello]), metadata=metadata, timeout=10))
                case "Nothing":
                    channel.unary_unary("/seedbed.v1.Seedbed/Nothing")(b"", metadata=metadata, timeout=10)
                case _:
                    request = getattr(pb, f"{method}Request")()
                    getattr(stub, method)(request, metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    "method", [method.name for method in pb.DESCRIPTOR.services_by_name["Seedbed"].methods] + ["Nothing"]
)
def test_no_method_without_the_token(echo: EchoServer, files: Files, method: str) -> None:
    """Whatever methods there are, now or later."""
    for metadata in (
        (),
        (("authorization", "Bearer "),),
        (("authorization", f"Bearer {SECOND}"),),
        (("authorization", FIRST),),
        (("x", "y"), ("authorization", f"Bearer {FIRST[:-1]}")),
    ):
        assert _status(echo, files, method, metadata) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.usefixtures("unharmed")
def test_a_token_of_a_megabyte(echo: EchoServer, files: Files) -> None:
    metadata = (("authorization", "Bearer " + "x" * 2**20),)
    assert _status(echo, files, "Act", metadata) is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.usefixtures("unharmed")
def test_clients_that_are_turned_away_say_why_and_end(echo: EchoServer, files: Files, tmp_path: Path) -> None:
    """None of them would wait for ever: a supervisor that starts them again would not help either."""
    other = Authority(tmp_path, "other")
    (tmp_path / "wrong").write_text(SECOND)
    ca, token = ("--tls-ca", files.authority.certificate), ("--token-file", files.token)
    start = ("env", "--server", echo.address, *ECHO)
    for options, words in [
        ((*ca,), ("token", "got none")),
        ((*ca, "--token-file", tmp_path / "wrong"), ("token", "got another one")),
        ((*token, "--tls-ca", other.certificate), ("not signed by an authority",)),
        ((*token, *ca, "--tls-server-name", "gpu.example"), ("localhost", "not for 'gpu.example'")),
        ((*token,), ("expects TLS",)),
    ]:
        ended = run(*start, *options)
        ended.assert_error(AUTH, *words)
        assert ".cc:" not in ended.stderr, "gRPC's core writes of its own"


@pytest.mark.parametrize("with_env", [True, False])
def test_an_expired_certificate(files: Files, with_env: bool) -> None:
    """Told on a client that asks what to step, and on one that knows."""
    with grpc_server(files.authority.sign("expired", days=-1)) as address:
        options = ECHO if with_env else ()
        client = run("env", "--server", str(address), *options, *files.let_in)
        client.assert_error(AUTH, "expired on 20")


def test_tls_to_a_server_without(files: Files) -> None:
    with grpc_server() as address:
        run("env", "--server", str(address), *ECHO, *files.let_in).assert_error(AUTH, "speaks without encryption")


def test_a_token_is_never_sent_in_the_open(files: Files) -> None:
    """Nor is it looked whether anybody is there: 192.0.2.0/24 is nobody's (RFC 5737)."""
    client = run("env", "--server", "192.0.2.7:7777", "--token-file", files.token)
    client.assert_error(USAGE, "192.0.2.7:7777", "--tls-ca", "--insecure")
    assert FIRST not in client.stderr


@pytest.mark.usefixtures("unharmed")
def test_connections_that_never_say_a_word(echo: EchoServer, files: Files) -> None:
    """They keep nobody out, old or new."""
    host, _, port = echo.address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        asked = run("doctor", "--server", echo.address, *files.let_in)
        assert "problem" not in asked.stdout.partition("this machine")[0]


def test_everything_is_replaced_while_a_client_runs(files: Files, tmp_path: Path) -> None:
    """Token, certificate and authority: no restart, and of a broken connection only that it is made anew."""
    newer = Authority(tmp_path, "newer")
    server_token, client_token, client_ca = (tmp_path / name for name in ("server-token", "client-token", "ca.pem"))
    for token in (server_token, client_token):
        token.write_text(FIRST)
    client_ca.write_bytes(files.authority.certificate.read_bytes())
    pair = Pair(tmp_path / "server.pem", tmp_path / "server.key")
    files.server.copy_to(pair)
    credentials = ServerCredentials(token_file=server_token, tls_cert=pair.certificate, tls_key=pair.key)
    server = EchoServer(num_slots=8, grace_s=30.0, frontends=1, credentials=credentials)
    let_in = ("--tls-ca", client_ca, "--token-file", client_token)
    with server as echo, Proxy(echo.address) as proxy:
        with Program("env", "--server", proxy.address, *ECHO, *let_in) as client:
            healthy = Healthy(echo, client)
            eventually(lambda: echo.episodes, "a first episode")
            server_token.write_text(f"{SECOND}\n{FIRST}\n")
            client_token.write_text(SECOND)
            proxy.reset()
            healthy.await_progress()
            server_token.write_text(SECOND)
            newer.sign("newer-server").copy_to(pair)
            client_ca.write_bytes(newer.certificate.read_bytes())
            proxy.reset()
            healthy.await_progress()
            client_token.write_text(FIRST)
            proxy.reset()
            assert client.wait() == AUTH
            assert "lease lost" not in client.stderr
        assert echo.server.vitals.total("leases_opened") == 1
        assert echo.server.vitals.total("leases_resumed") == 2
    assert server.audit.problems == []


def test_connections_of_a_certain_age_are_made_anew(files: Files) -> None:
    """So that an old token or certificate does not last as long as a stream; nothing is lost by it."""
    server = EchoServer(
        num_slots=8,
        grace_s=30.0,
        frontends=1,
        credentials=ServerCredentials(token_file=files.token, max_connection_age_s=1.0),
    )
    with server as echo, Program("env", "--server", echo.address, *ECHO, "--token-file", files.token) as client:
        eventually(lambda: echo.server.vitals.total("leases_resumed") >= 2, "two more connections")
        Healthy(echo, client).await_progress()
        assert echo.server.vitals.total("leases_opened") == 1
        client.send(signal.SIGTERM)
        assert client.wait() == 0
    assert server.audit.problems == []


def test_local_clients_get_what_they_need(files: Files, tmp_path: Path) -> None:
    """From a server with a certificate for another host, and a token."""
    pair = files.authority.sign("far", "DNS:*.gpu.example")
    train = ("train", "--preset", "catch", *FAST, "--max-steps", 300, "--run-dir", tmp_path / "run")
    tls = ("--tls-cert", pair.certificate, "--tls-key", pair.key)
    run(*train, *tls, environment={TOKEN_VARIABLE: FIRST}).assert_well()
    assert FIRST not in (tmp_path / "run" / "config.json").read_text()


def test_options_that_no_server_starts_with(files: Files, tmp_path: Path) -> None:
    train = ("train", "--preset", "catch", *FAST, "--run-dir", tmp_path / "run")
    far, token = ("--host", "0.0.0.0"), ("--token-file", files.token)
    tls = ("--tls-cert", files.server.certificate, "--tls-key", files.server.key)
    old = files.authority.sign("too-old", days=-1)
    run(*train, *far, *token).assert_error(USAGE, "expected TLS", "0.0.0.0")
    run(*train, *far, *tls).assert_error(USAGE, "expected a token", "0.0.0.0")
    run(*train, *tls, "--tls-client-ca", files.authority.certificate).assert_error(USAGE, "--tls-client-ca")
    run(*train, "--tls-cert", old.certificate, "--tls-key", old.key).assert_error(AUTH, "expired on 20")
    run(*train, "--token-file", tmp_path / "nowhere").assert_error(AUTH, "nowhere")
