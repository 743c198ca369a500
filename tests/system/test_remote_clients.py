"""A client on another machine: another network namespace, TLS and token as docs/remote-clients.md has them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.namespaces import SERVER_ADDRESS, Cable, missing_rights
from tests.system.processes import FAST, Program, eventually, read_metrics, run

pytestmark = pytest.mark.system

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "remote-clients.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
UNAVAILABLE, AUTH = 75, 77


def block(first_words: str) -> str:
    """A code block of the page, with the addresses of the test."""
    [found] = [text for text in BLOCKS if text.startswith(first_words)]
    return str(found).replace("192.0.2.7", SERVER_ADDRESS)


def options_of(first_words: str, folder: Path) -> list[str]:
    """The last command of a block as arguments, its files in `folder`."""
    command = block(first_words).replace("\\\n", " ").strip().splitlines()[-1]
    words = command.partition("#")[0].split()
    assert words[0] == "seedbed"
    return [str(folder / word) if (folder / word).is_file() else word for word in words[1:]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the files that the page's commands make."""
    folder = tmp_path_factory.mktemp("page")
    for text in (block("openssl req -x509"), block("openssl req -newkey")):
        subprocess.run(["sh", "-e", "-c", text], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    if reason := missing_rights():
        pytest.skip(reason)
    with Cable() as cable:
        yield cable


@pytest.fixture(scope="module")
def server(cable: Cable, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The page's server, on its machine, with a smaller training."""
    arguments = options_of("seedbed server --preset pong --run-dir runs/far --host", folder)
    arguments[arguments.index("pong")] = "catch"
    arguments[arguments.index("runs/far")] = str(tmp_path_factory.mktemp("runs") / "far")
    more = ("--target-return", "none", "--grace-s", 30, "--http-port", "none")
    with Program(*arguments, *FAST, *more, prefix=cable.server.prefix) as program:
        assert program.address == "0.0.0.0:7777"
        yield program
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        program.assert_alone()


@pytest.fixture
def client_options(folder: Path) -> list[str]:
    """The page's client."""
    return options_of("seedbed env --server gpu.example:7777 --num-envs", folder)


def at(host: str, options: list[str]) -> list[str]:
    """The same for another host: the name is in no name server."""
    return [option.replace("gpu.example", host) for option in options]


def metrics_of(server: Program) -> list[dict[str, float]]:
    """Lines of the run's log."""
    return read_metrics(Path(server._arguments[server._arguments.index("--run-dir") + 1]))


def await_steps(server: Program) -> None:
    """Training goes on."""
    before = metrics_of(server)[-1]["agent_steps"] if metrics_of(server) else 0
    server.eventually(lambda: metrics_of(server) and metrics_of(server)[-1]["agent_steps"] > before, "more steps")


def test_a_client_on_another_machine(cable: Cable, server: Program, client_options: list[str]) -> None:
    """It trains; the cable may be pulled for a while; and it leaves in order."""
    with Program(*at(SERVER_ADDRESS, client_options), prefix=cable.client.prefix) as client:
        await_steps(server)
        with cable.unplugged():
            eventually(lambda: "next attempt" in client.stderr, "the client to notice")
        client.eventually(lambda: client.stderr.count("lease resumed") == 2, "both leases to go on")
        await_steps(server)
        assert "lease lost" not in client.stderr
        client.send(signal.SIGTERM)
        assert client.wait() == 0


def test_doctor(cable: Cable, server: Program, folder: Path) -> None:
    """From another machine everything is well, also under the certificate's other name; or it is said what is not."""
    options = at(SERVER_ADDRESS, options_of("seedbed doctor", folder))
    well = run(*options, "--tls-server-name", "gpu.example", prefix=cable.client.prefix)
    well.assert_well()
    lines = [line.split()[:2] for line in well.stdout.splitlines()]
    for subject in ("name", "port", "encryption", "token", "protocol", "server", "environment"):
        assert ["ok", subject] in lines, well.stdout
    nobody = run(*at("10.77.0.9", options_of("seedbed doctor", folder)), prefix=cable.client.prefix)
    assert nobody.code == UNAVAILABLE, nobody.stdout + nobody.stderr
    assert "problem  port" in nobody.stdout


@pytest.mark.slow
def test_a_server_that_demands_certificates(cable: Cable, folder: Path, tmp_path: Path) -> None:
    """Of clients, instead of a token: the page's own."""
    mine = at(SERVER_ADDRESS, options_of("seedbed env --server gpu.example:7777 --tls-ca", folder))
    serve = (
        "server",
        "--preset",
        "catch",
        *FAST,
        "--host",
        SERVER_ADDRESS,
        "--http-port",
        "none",
        "--run-dir",
        tmp_path,
    )
    tls = (
        "--tls-cert",
        folder / "server.pem",
        "--tls-key",
        folder / "server.key",
        "--tls-client-ca",
        folder / "ca.pem",
    )
    with Program(*serve, *tls, prefix=cable.server.prefix) as server:
        mine[mine.index(f"{SERVER_ADDRESS}:7777")] = server.address
        without = mine[: mine.index("--tls-cert")]
        refused = run(*without, prefix=cable.client.prefix)
        refused.assert_error(AUTH, "without a client's certificate", "--tls-cert")
        with Program(*mine, prefix=cable.client.prefix) as client:
            server.eventually(lambda: metrics_of(server) and metrics_of(server)[-1]["agent_steps"] > 0, "steps")
            assert client.process.poll() is None


@pytest.mark.parametrize(("name", "client", "server"), [("server.pem", "No", "Yes"), ("client.pem", "Yes", "No")])
def test_the_pages_certificates_are_for_one_thing_each(name: str, client: str, server: str, folder: Path) -> None:
    """The server's does not pass as a client's, and no client can play the server."""
    said = subprocess.run(
        ["openssl", "x509", "-purpose", "-noout", "-in", folder / name],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert f"SSL client : {client}\n" in said
    assert f"SSL server : {server}\n" in said


def test_the_page_keeps_its_secrets(folder: Path) -> None:
    for name in ("ca.key", "server.key", "token"):
        assert os.stat(folder / name).st_mode & 0o077 == 0
