"""Health of live servers, over HTTP and gRPC: it is what it says, also when the server hangs."""

from __future__ import annotations

import http.client
import re
import signal
import time
from contextlib import closing
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from seedbed.server.shared.vitals import Phase
from tests.system.echo import EchoServer
from tests.system.processes import FAST, Program, eventually

pytestmark = pytest.mark.system

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
SERVICES = ("", "seedbed-liveness", "seedbed-readiness")


def ask(address: str) -> tuple[int, ...]:
    """Status of each service over gRPC."""
    with grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        return tuple(
            HealthStub(channel).Check(HealthCheckRequest(service=name), timeout=10).status for name in SERVICES
        )


def get(address: str, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection(address, timeout=20)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def metric(address: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", get(address, "/metrics")[1], re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def http_address(program: Program) -> str:
    found = program.eventually(lambda: re.search(r"metrics on http://(\S+)", program.stderr), "the endpoint")
    assert found is not None
    return found[1]


def test_grpc_health_follows_the_vitals() -> None:
    """Through a `Watch`, which sees every change, and `Check`."""
    with EchoServer(num_slots=4, grace_s=1.0, frontends=1) as echo:
        eventually(lambda: ask(echo.address) == (SERVING, SERVING, SERVING), "health")
        with grpc.insecure_channel(echo.address) as channel:
            watch = HealthStub(channel).Watch(HealthCheckRequest(service="seedbed-readiness"), timeout=30)
            assert next(watch).status == SERVING
            echo.server.vitals.device["taken_s"] = 1.0  # a batch that the learner took when the machine was booted
            assert next(watch).status == NOT_SERVING
            eventually(lambda: ask(echo.address) == (NOT_SERVING, NOT_SERVING, NOT_SERVING), "the same for all")
            echo.server.vitals.device["taken_s"] = 0.0
            assert next(watch).status == SERVING
            echo.server.vitals.device["phase"] = Phase.DRAINING
            assert next(watch).status == NOT_SERVING
            # It drains, which is no reason to kill it.
            eventually(lambda: ask(echo.address) == (NOT_SERVING, SERVING, NOT_SERVING), "liveness alone")
        with pytest.raises(grpc.RpcError) as unknown, grpc.insecure_channel(echo.address) as channel:
            HealthStub(channel).Check(HealthCheckRequest(service="other"), timeout=10)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.timeout(300)
def test_a_server_from_start_to_end(tmp_path: Path) -> None:
    """Before and after its clients it is ready and costs next to nothing; frozen it is not live."""
    options = ("--run-dir", tmp_path / "run", "--http-port", 0, "--stall-limit-s", 3)
    with Program("server", "--preset", "cartpole", *FAST, *options) as program:
        address = http_address(program)
        assert get(address, "/healthz") == (200, "ok\n")
        assert program.address
        program.eventually(lambda: get(address, "/readyz") == (200, "ok\n"), "readiness")
        program.eventually(lambda: ask(program.address) == (SERVING, SERVING, SERVING), "the same over gRPC")
        assert metric(address, "seedbed_clients_connected") == 0
        with Program("env", "--server", program.address, "--num-envs", 8):
            program.eventually(lambda: metric(address, "seedbed_updates_total") > 0, "training")
        program.eventually(lambda: metric(address, "seedbed_clients_connected") == 0, "the end of all clients")
        _assert_idle(program)
        assert get(address, "/readyz") == (200, "ok\n")
        program.send(signal.SIGSTOP)
        eventually(lambda: get(address, "/healthz")[0] == 503, "the truth about a frozen server")
        assert get(address, "/readyz")[0] == 503
        stuck = "the inference thread has not turned"  # each thread's last sign of life is a little older or younger
        eventually(lambda: stuck in get(address, "/readyz")[1], "which thread it is")
        eventually(lambda: ask(program.address) == (NOT_SERVING, NOT_SERVING, NOT_SERVING), "the same over gRPC")
        program.send(signal.SIGCONT)
        program.eventually(lambda: get(address, "/readyz")[0] == 200, "readiness again: it was stopped, not stuck")
        _flood(program, address)
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        program.assert_alone()


def _assert_idle(program: Program) -> None:
    """Nobody spins while there are no clients: all threads of all processes together."""
    family = [psutil.Process(program.process.pid), *program.children()]

    def cpu_s() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in family)

    before_s = cpu_s()
    time.sleep(3.0)
    assert cpu_s() - before_s < 1.0, "a thread that spins costs 3 s"


def _flood(program: Program, address: str) -> None:
    """As many scrapes as a client can send; the server goes on."""
    for _ in range(30):
        assert get(address, "/metrics")[0] == 200
    assert get(address, "/readyz")[0] == 200
