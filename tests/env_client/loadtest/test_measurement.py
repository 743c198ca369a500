"""Figures from snapshots that are made by hand: every one of them is plain arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from seedbed.common.server_status import ProcessUse, ServerStatus, Stage, status_from_message
from seedbed.env_client.loadtest.measurement import Measurement, Snapshot, is_stable, measure
from seedbed.env_client.loadtest.points import Load
from seedbed.env_client.loadtest.tally import Sample, Tally
from seedbed.proto import seedbed_pb2 as pb

CLOSED = Load(clients=4, envs_per_client=8)


def make_tally(messages: int, latency_s: float = 0.010, **other: Any) -> Tally:
    """Every message of 8 rows took as long; 0.1 ms of it packing."""
    tally = Tally(pack_s=messages * 1e-4, lag_s=messages * 2e-4, lags=messages, sent_bytes=messages * 1000)
    for _ in range(messages):
        tally.answer(latency_s, 0.008, 8)
    for name, value in other.items():
        setattr(tally, name, value)
    return tally


def make_status(seconds: float, messages: int, **other: Any) -> ServerStatus:
    """A server whose batches hold two messages, of 8 rows each."""
    batches = messages // 2
    status = ServerStatus(
        uptime_s=seconds,
        num_slots=100,
        used_slots=32,
        streams=4,
        counters={"batches": batches, "batch_rows": batches * 16, "updates": 5 * seconds},
        stages={
            "wait": Stage(messages * 0.001, messages),
            "inference": Stage(batches * 0.002, batches),
            "reply": Stage(messages * 0.0005, messages),
            "remember": Stage(batches * 0.001, batches),
            "back_pressure": Stage(0.25 * seconds, batches),
        },
        batch_sizes=(0, 0, 0, 0, batches),
        processes={"device": ProcessUse(0.5 * seconds, 300 << 20), "frontend-0": ProcessUse(seconds, 50 << 20)},
    )
    return replace(status, **other)


def snapshot(seconds: float, tallies: list[Tally], status: ServerStatus | None) -> Snapshot:
    drivers = [Sample(time_s=50 + seconds, cpu_s=0.25 * seconds, rss_bytes=40 << 20, tally=tally) for tally in tallies]
    return Snapshot(
        time_s=seconds, drivers=drivers, statuses=(status,) if status else (), machine_busy_s=1000 + 3 * seconds
    )


def figures(load: Load, snapshots: list[Snapshot], errors: Tally | None = None) -> Measurement:
    return measure(
        load,
        snapshots,
        errors or Tally(),
        stable=True,
        frames_per_step=4,
        num_cores=4,
        server_is_here=True,
    )


def two_seconds(load: Load = CLOSED, **other: Any) -> Measurement:
    """Two drivers, 100 messages each in two seconds."""
    before = snapshot(10, [make_tally(50), make_tally(70)], make_status(10, 120))
    after = snapshot(12, [make_tally(150, **other), make_tally(170)], make_status(12, 320))
    return figures(load, [before, after])


def test_rates() -> None:
    found = two_seconds(stepping_s=4.0)
    assert (found.seconds, found.windows) == (2.0, 1)
    assert found.messages_per_s == 100
    assert found.agent_steps_per_s == pytest.approx(800)
    assert found.frames_per_s == pytest.approx(3200)
    assert found.sent_bytes_per_s == 100_000
    assert found.stepping == 0.5
    assert found.latency_ms.p50 == pytest.approx(10, rel=0.01)


def test_where_a_round_trip_goes() -> None:
    """8 ms of waiting: 0.3 at the client, 1 + 2 + 0.5 in the server's stages, and the rest between them."""
    found = two_seconds()
    assert found.round_trip_ms == pytest.approx(
        {"client": 0.3, "network": 4.2, "wait": 1.0, "inference": 2.0, "reply": 0.5}
    )
    behind = two_seconds(replace(CLOSED, rate=100)).round_trip_ms
    assert behind["behind"] == pytest.approx(2.0)
    assert sum(behind.values()) == pytest.approx(10.0)


def test_figures_of_the_server() -> None:
    found = two_seconds()
    assert found.batch_rows_mean == 16
    assert found.batch_sizes == {"16": 100}
    assert found.inference_busy == pytest.approx(100 * 0.003 / 2)
    assert found.back_pressure == pytest.approx(0.25)
    assert found.updates_per_s == pytest.approx(5)


def test_what_processes_cost() -> None:
    found = two_seconds()
    assert list(found.processes) == ["driver-0", "driver-1", "device", "frontend-0"]
    assert found.processes["driver-1"].cores == pytest.approx(0.25)
    assert found.processes["frontend-0"].cores == pytest.approx(1.0)
    assert found.processes["frontend-0"].cpu_us_per_step == pytest.approx(2 / 1600 * 1e6)
    assert found.processes["device"].rss_mib == 300
    assert found.machine_busy == pytest.approx(0.75)
    assert found.figures.busiest("driver") == pytest.approx(0.25)
    assert found.figures.busiest("nothing") == 0


@pytest.mark.parametrize("status", [None, make_status(1, 20)])
def test_a_server_that_tells_nothing_or_was_restarted(status: ServerStatus | None) -> None:
    before = snapshot(10, [make_tally(50)], make_status(10, 120))
    found = figures(CLOSED, [before, snapshot(12, [make_tally(150)], status)])
    assert found.round_trip_ms == pytest.approx({"client": 0.3, "network": 7.7})
    assert found.batch_rows_mean is found.inference_busy is found.back_pressure is None
    assert list(found.processes) == ["driver-0"]


def test_a_load_without_answers_has_no_figures_and_does_not_fail() -> None:
    errors = Tally()
    errors.fail("disconnected", "a stream broke")
    errors.fail("UnavailableError", "gone")
    found = figures(CLOSED, [snapshot(10, [Tally()], None), snapshot(12, [Tally()], None)], errors)
    assert found.agent_steps_per_s == 0
    assert found.errors == {"disconnected": 1, "UnavailableError": 1}
    assert found.error_example == "gone"


def test_json_is_flat_where_that_is_natural() -> None:
    data = two_seconds().to_json()
    assert (data["clients"], data["envs_per_client"], data["rate"]) == (4, 8, None)
    assert set(data["latency_ms"]) == {"p50", "p90", "p95", "p99", "max"}


@pytest.mark.parametrize(
    ("messages", "latencies_s", "stable"),
    [
        ((100, 200, 300, 400), (0.01, 0.01, 0.01, 0.01), True),
        ((100, 200, 300), (0.01, 0.01, 0.01), False),  # too few windows
        ((100, 200, 300, 420), (0.01, 0.01, 0.01, 0.01), False),  # throughput still grows
        ((100, 250, 350, 450, 550), (0.01, 0.01, 0.01, 0.01, 0.01), True),  # only the last three count
        ((100, 100, 100, 100), (0.01, 0.01, 0.01, 0.01), False),  # nothing is answered
    ],
)
def test_stability(messages: tuple[int, ...], latencies_s: tuple[float, ...], stable: bool) -> None:
    snapshots = [
        snapshot(second, [make_tally(count, latency_s)], None)
        for second, (count, latency_s) in enumerate(zip(messages, latencies_s, strict=True))
    ]
    assert is_stable(snapshots, 3, 0.05) is stable


def test_latency_must_be_stable_too() -> None:
    tally, snapshots = Tally(), []
    for second, latency_s in enumerate((0.01, 0.01, 0.01, 0.02)):
        for _ in range(100):
            tally.answer(latency_s, latency_s, 8)
        snapshots.append(snapshot(second, [Sample.from_json(Sample.take(tally).to_json()).tally], None))
    assert not is_stable(snapshots, 3, 0.05)


def test_status_is_read_from_the_wire() -> None:
    message = pb.StatusResponse(
        uptime_s=3.0,
        counters={"batches": 7.0},
        gauges={"num_slots": 64.0, "used_rows": 8.0},
        stages={"wait": pb.Histogram(sum=0.5, buckets=[1, 2, 3])},
        batch_sizes=pb.Histogram(sum=20.0, buckets=[0, 4, 3]),
        processes=[pb.Process(name="device", pid=1, cpu_s=2.0, rss_bytes=10)],
    )
    status = status_from_message(message)
    assert (status.num_slots, status.used_slots, status.counters["batches"]) == (64, 8, 7.0)
    assert status.stage("wait").mean_ms == pytest.approx(0.5 / 6 * 1000)
    assert status.stage("never") == Stage()
    assert status.batch_sizes == (0, 4, 3)
    assert status.processes["device"] == ProcessUse(2.0, 10)
