"""`Status` of a live server: what it counts is what really happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import grpc
import pytest

from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub
from tests.system.echo import ECHO_SPEC, EchoServer
from tests.system.processes import FAST, Program, eventually, run

pytestmark = pytest.mark.system


def ask(address: str) -> pb.StatusResponse:
    with grpc.insecure_channel(address) as channel:
        return SeedbedStub(channel).Status(pb.StatusRequest(), timeout=10)


def test_status_tells_what_happened() -> None:
    with EchoServer(num_slots=4, grace_s=5.0) as echo:
        fresh = ask(echo.address)
        assert fresh.phase == pb.StatusResponse.PHASE_SERVING
        assert fresh.counters["messages"] == fresh.gauges["streams"] == 0
        assert {process.name for process in fresh.processes} == {"device", "frontend-0", "frontend-1"}
        device = next(process for process in fresh.processes if process.name == "device")
        assert device.pid == os.getpid()
        assert device.rss_bytes > 10e6
        with Program("env", "--server", echo.address, "--env", "seedbed/Echo-v0", "--num-envs", 4) as client:
            eventually(lambda: echo.num_steps > 200, "steps")
            busy = ask(echo.address)
            assert busy.gauges["streams"] == busy.counters["leases_opened"] == 2
            client.send(signal.SIGTERM)
            assert client.wait() == 0
        eventually(lambda: ask(echo.address).gauges["streams"] == 0, "the streams to be gone")
        after = ask(echo.address)
        assert after.counters["agent_steps"] == echo.num_steps
        messages = after.counters["messages"]
        assert after.counters["rows"] == 2 * messages
        assert messages - 2 <= after.counters["batch_rows"] / 2 <= messages  # a client may leave with one on its way
        row_bytes = after.counters["received_bytes"] / after.counters["rows"]
        assert row_bytes == sum(spec.row_bytes for spec in ECHO_SPEC.observations)
        counts = {name: sum(stage.buckets) for name, stage in after.stages.items()}
        assert counts["accept"] == messages
        assert counts["wait"] == after.counters["batch_rows"] / 2
        assert messages - 2 <= counts["reply"] == counts["residence"] <= counts["wait"]  # the last were left unread
        parts = sum(after.stages[stage].sum for stage in ("accept", "wait", "reply"))
        assert 0 < parts < after.stages["residence"].sum
        assert sum(after.stages["inference"].buckets) == after.counters["batches"]
        assert sum(after.batch_sizes.buckets) == after.counters["batches"]
        assert after.batch_sizes.sum == after.counters["batch_rows"]


def test_top_names_the_clients_of_a_training(tmp_path: Path) -> None:
    """In a terminal as in the dashboard: who is slow."""
    options = (
        "--preset",
        "cartpole",
        *FAST,
        "--max-steps",
        10**8,
        "--dashboard-port",
        "off",
        "--run-dir",
        tmp_path / "r",
    )
    with Program("train", *options) as training:
        training.eventually(lambda: ask(training.address).counters["agent_steps"] > 500, "steps")
        assert not ask(training.address).clients  # only those who ask for them get them
        done = run("top", training.address, "--once")
        done.assert_well()
        lines = done.stdout.splitlines()
        assert lines[0].startswith(f"r   {training.address}   CartPole-v1   serving")
        (title,) = (number for number, line in enumerate(lines) if line.startswith("FLEET"))
        assert lines[title] == "FLEET  1 client, 8 environments"
        client = dict(
            zip(lines[title + 1].replace(" v", "").split(), lines[title + 2].replace(" ms", "").split(), strict=False)
        )
        assert client["client"].startswith("local-0-")
        assert (client["host"], client["envs"]) == ("127.0.0.1", "8")
        assert float(client["steps/s"].replace(",", "")) > 0
        assert float(client["think"]) > 0
        training.send(signal.SIGTERM)
        assert training.wait() == 0
