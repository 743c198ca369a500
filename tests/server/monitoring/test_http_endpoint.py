"""/healthz, /readyz and /metrics from a real process: true, whatever else somebody does to it."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import time
from collections.abc import Iterator

import psutil
import pytest

from seedbed.common import binding
from seedbed.common.errors import PortInUseError, UsageError
from seedbed.server.monitoring import http_endpoint
from seedbed.server.monitoring.http_endpoint import HttpEndpoint, page
from seedbed.server.monitoring.prometheus import ServerFacts
from seedbed.server.shared.vitals import Phase, VitalsTable
from tests.system.processes import eventually


def make_facts() -> ServerFacts:
    return ServerFacts(vitals=VitalsTable(1), stall_limit_s=60.0, num_slots=8, frames_per_step=1, version="0")


@pytest.fixture(scope="module")
def facts() -> ServerFacts:
    return make_facts()


@pytest.fixture(scope="module")
def endpoint(facts: ServerFacts) -> Iterator[HttpEndpoint]:
    subject = HttpEndpoint("127.0.0.1", 0, facts)
    subject.start()
    yield subject
    subject.stop()


@pytest.fixture(autouse=True)
def healthy(facts: ServerFacts) -> None:
    now_s = time.monotonic()
    facts.vitals.device["phase"] = Phase.SERVING
    for name in ("turn_s", "tick_s"):
        facts.vitals.device[name] = now_s
    facts.vitals.frontends[0]["tick_s"] = now_s + 100  # so that a slow test does not turn it silent


def ask(endpoint: HttpEndpoint, path: str, method: str = "GET") -> tuple[int, str]:
    host, port = endpoint.address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def dial(endpoint: HttpEndpoint) -> socket.socket:
    host, port = endpoint.address.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def process_of(endpoint: HttpEndpoint) -> psutil.Process:
    assert endpoint._process is not None
    return psutil.Process(endpoint._process.pid)


def test_a_healthy_server(endpoint: HttpEndpoint) -> None:
    assert ask(endpoint, "/healthz") == (200, "ok\n")
    assert ask(endpoint, "/readyz") == (200, "ok\n")
    status, body = ask(endpoint, "/metrics")
    assert status == 200
    assert "seedbed_ready 1.0" in body
    assert ask(endpoint, "/metrics", "HEAD") == (200, "")


def test_reasons_are_in_the_body(endpoint: HttpEndpoint, facts: ServerFacts) -> None:
    facts.vitals.device["turn_s"] -= 100
    for path in ("/healthz", "/readyz"):
        status, body = ask(endpoint, path)
        assert status == 503
        assert "the inference thread has not turned for 100 s" in body
    facts.vitals.device["turn_s"] += 100
    facts.vitals.device["phase"] = Phase.DRAINING
    assert ask(endpoint, "/healthz") == (200, "ok\n")
    assert ask(endpoint, "/readyz") == (503, "draining\n")


def test_other_requests(endpoint: HttpEndpoint) -> None:
    assert ask(endpoint, "/")[0] == 404
    assert ask(endpoint, "/readyz?verbose=1")[0] == 200
    assert ask(endpoint, "/readyz", "POST")[0] == 405


def test_a_check_that_fails_fails_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_: ServerFacts) -> None:
        raise RuntimeError("the check is broken")

    monkeypatch.setattr(ServerFacts, "health", explode)
    for path in ("/healthz", "/readyz"):
        status, _, body = page(path, make_facts())
        assert status == 503
        assert b"the check is broken" in body


def test_rubbish_and_silence_and_readers_that_do_not_read(
    endpoint: HttpEndpoint, facts: ServerFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once, more of them than it takes; a probe in their midst is answered, and they are thrown out."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(dial(endpoint)) for _ in range(http_endpoint._MAX_CONNECTIONS + 20)]
        for number, connection in enumerate(held):
            with contextlib.suppress(ConnectionError):  # thrown out by now: there are more of them than may be
                match number % 4:
                    case 0:
                        connection.sendall(os.urandom(100))
                    case 1:
                        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                    case 2:
                        connection.sendall(b"x" * 20_000)
        assert ask(endpoint, "/readyz") == (200, "ok\n")
        files = process_of(endpoint)
        eventually(lambda: files.num_fds() < 30, "all of them to be thrown out", 20.0)
    assert ask(endpoint, "/readyz") == (200, "ok\n")


def test_one_that_dies_is_replaced(endpoint: HttpEndpoint) -> None:
    before = process_of(endpoint)
    before.kill()
    eventually(lambda: not before.is_running() or before.status() == psutil.STATUS_ZOMBIE, "its end")

    def replaced() -> bool:
        endpoint.check()
        return process_of(endpoint).pid != before.pid

    eventually(replaced, "another")
    assert ask(endpoint, "/healthz") == (200, "ok\n")


def test_a_port_in_use(endpoint: HttpEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "PATIENCE_S", 0.1)
    port = int(endpoint.address.split(":")[1])
    with pytest.raises(PortInUseError, match=str(port)):
        HttpEndpoint("127.0.0.1", port, make_facts())


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("192.0.2.1", 0), ("no such host", 0)])
def test_an_address_that_is_none(host: str, port: int) -> None:
    with pytest.raises(UsageError, match="expected an --http-"):
        HttpEndpoint(host, port, make_facts())
