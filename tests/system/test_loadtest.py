"""`seedbed loadtest` as people start it, against real servers."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from seedbed.common.credentials import ServerCredentials
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub
from tests.pki import Authority
from tests.system.echo import EchoServer
from tests.system.processes import Program, eventually, run
from tests.system.proxy import Proxy

pytestmark = pytest.mark.system

SMALL = ("--env", "seedbed/Synthetic-v0,shape=4x3,dtype=float32,actions=3,length=10", "--torso", "mlp")
SHORT = ("--seconds", "0.5", "--processes", "1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One that only answers, with room for 16 environments."""
    run_dir = tmp_path_factory.mktemp("server")
    arguments = (*SMALL, "--num-envs", 16, "--num-slots", 16, "--device", "cpu", "--no-train")
    with Program("server", *arguments, "--run-dir", run_dir) as program:
        yield program


def status(program: Program) -> pb.StatusResponse:
    with grpc.insecure_channel(program.address) as channel:
        return SeedbedStub(channel).Status(pb.StatusRequest(), timeout=10)


def test_a_range_of_loads(server: Program, tmp_path: Path) -> None:
    """Table, JSON, CSV and picture; figures of every process; and nothing is left leased, or learnt."""
    before = status(server)
    files = ("--json", tmp_path / "load.json", "--csv", tmp_path / "load.csv", "--plot", tmp_path / "load.png")
    done = run("loadtest", "--server", server.address, "--clients", "1:4", "--envs-per-client", 4, *SHORT, *files)
    done.assert_well()
    assert "which serves seedbed/Synthetic-v0" in done.stdout
    assert "bottleneck: " in done.stdout
    loads = json.loads((tmp_path / "load.json").read_text())
    assert [(load["clients"], load["envs_per_client"]) for load in loads] == [(1, 4), (2, 4), (4, 4)]
    for load in loads:
        assert load["agent_steps_per_s"] > 0
        assert load["errors"] == {}
        latency = load["latency_ms"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p95"] <= latency["p99"] <= latency["max"]
        assert set(load["round_trip_ms"]) == {"client", "network", "wait", "inference", "reply"}
        assert set(load["processes"]) == {"driver-0", "device", "frontend-0"}
        assert 4 <= load["batch_rows_mean"] <= 4 * load["clients"]
        assert load["verdict"]["stage"] in done.stdout
    assert len((tmp_path / "load.csv").read_text().splitlines()) == 4
    assert (tmp_path / "load.png").stat().st_size > 10_000
    eventually(lambda: status(server).gauges["used_rows"] == 0, "all rows to be given back")
    after = status(server)
    assert after.counters["updates"] == 0, "--no-train"
    assert after.counters["streams_opened"] - before.counters["streams_opened"] == 1 + 2 + 4
    assert after.refusals == before.refusals


def test_a_rate_and_a_goal_that_is_missed(server: Program, tmp_path: Path) -> None:
    loop = ("--clients", 2, "--envs-per-client", 2, "--rate", 40, "--min-fps", 1e9, "--json", tmp_path / "load.json")
    done = run("loadtest", "--server", server.address, *loop, *SHORT)
    assert done.code == 1
    assert "expected at least 1,000,000,000 frames/s, got" in done.stderr
    (load,) = json.loads((tmp_path / "load.json").read_text())
    assert load["rate"] == 40
    assert load["agent_steps_per_s"] < 80
    assert "behind" in load["round_trip_ms"]


def test_a_slow_network_is_seen_where_it_is(server: Program, tmp_path: Path) -> None:
    """50 ms are added each way, and belong to no stage of the server."""
    with Proxy(server.address) as proxy:
        proxy.to_server.latency_s = proxy.to_client.latency_s = 0.05
        load = ("--clients", 2, "--envs-per-client", 2, "--seconds", 2, "--json", tmp_path / "load.json")
        run("loadtest", "--server", proxy.address, *load).assert_well()
    (found,) = json.loads((tmp_path / "load.json").read_text())
    assert found["latency_ms"]["p50"] > 99
    assert found["round_trip_ms"]["network"] > 95
    assert found["agent_steps_per_s"] <= 4 / 0.1


def test_what_the_server_has_no_room_for_is_refused_at_once(server: Program) -> None:
    done = run("loadtest", "--server", server.address, "--clients", "1:8", "--envs-per-client", 4, *SHORT)
    done.assert_error(75, "room for 32 environments", "16 slots")


def test_a_server_with_tls_and_a_token_lets_in_who_has_both(tmp_path: Path) -> None:
    authority, token = Authority(tmp_path), tmp_path / "token"
    token.write_text("a-token-of-this-load-test")
    pair = authority.sign("server")
    credentials = ServerCredentials(token_file=token, tls_cert=pair.certificate, tls_key=pair.key)
    with EchoServer(num_slots=8, grace_s=5.0, frontends=1, credentials=credentials) as echo:
        load = ("loadtest", "--server", echo.address, "--clients", 2, "--envs-per-client", 2, *SHORT)
        run(*load, "--tls-ca", authority.certificate).assert_error(77, "token")
        assert echo.num_steps == 0
        run(*load, "--tls-ca", authority.certificate, "--token-file", token).assert_well()
        assert echo.num_steps > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("--server HOST:PORT or --spawn",)),
        (("--server", "127.0.0.1:1", "--spawn"), ("--server HOST:PORT or --spawn",)),
        (("--spawn", "--clients", "8:1"), ("--clients", "'8:1'")),
        (("--spawn", "--rate", "9", "--step-ms", "1"), ("--rate or --step-ms",)),
    ],
)
def test_wrong_options_are_one_line(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    run("loadtest", *arguments).assert_error(2, *words)


def test_ctrl_c_ends_all_that_was_started(tmp_path: Path) -> None:
    """Server, frontend and drivers, in the midst of a training; what was measured before is in the file."""
    load = (
        "--clients",
        "1,2",
        "--envs-per-client",
        2,
        "--seconds",
        1,
        "--processes",
        2,
        "--json",
        tmp_path / "load.json",
    )
    spawn = ("--spawn", *SMALL[:2], "--server-options", "--torso mlp --batch-size 2", "--device", "cpu")
    before = set(Path(tempfile.gettempdir()).glob("seedbed-loadtest-*"))
    with Program("loadtest", *load, *spawn) as program:
        program.eventually((tmp_path / "load.json").exists, "the first load")
        assert len(program.children()) >= 4, "server, frontend and two drivers"
        program.send(signal.SIGINT)
        assert program.wait() == 130
        program.assert_alone()
        assert "Traceback" not in program.stderr
    assert set(Path(tempfile.gettempdir()).glob("seedbed-loadtest-*")) == before
    (load_1,) = json.loads((tmp_path / "load.json").read_text())
    assert load_1["updates_per_s"] > 0, "it learns unless told otherwise"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_drivers_do_not_outlive_the_test(server: Program, number: signal.Signals, code: int) -> None:
    load = ("--clients", 2, "--envs-per-client", 1, "--seconds", 100, "--processes", 2)
    with Program("loadtest", "--server", server.address, *load) as program:
        program.eventually(lambda: status(server).gauges["streams"] == 2, "two clients")
        assert len(program.children()) == 2
        program.send(number)
        assert program.wait() == code
        program.assert_alone()
        eventually(lambda: status(server).gauges["streams"] == 0, "the clients to be gone")
