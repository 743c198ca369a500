"""Figures made by hand for each verdict; each differs from quiet ones only by what it is about."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from seedbed.common.load_figures import Figures, figures_of
from seedbed.common.server_status import ProcessUse, ServerStatus, Stage
from seedbed.common.verdict import Cause, Verdict, judge
from seedbed.env_client.loadtest.latency import Percentiles
from seedbed.env_client.loadtest.measurement import Measurement, ProcessFigures
from seedbed.env_client.loadtest.points import Load


def use(cores: float) -> ProcessFigures:
    return ProcessFigures(cores=cores, cpu_us_per_step=10.0, rss_mib=50.0)


def measurement(rate: int | None = None, processes: dict[str, float] | None = None, **other: Any) -> Measurement:
    """A server on this machine that is hardly loaded, 4 clients of 8 environments."""
    cores = {"driver-0": 0.2, "device": 0.3, "frontend-0": 0.1} | (processes or {})
    quiet: dict[str, Any] = {
        "seconds": 3.0,
        "windows": 3,
        "stable": True,
        "agent_steps_per_s": 1000.0,
        "frames_per_s": 1000.0,
        "messages_per_s": 125.0,
        "sent_bytes_per_s": 1e6,
        "received_bytes_per_s": 1e4,
        "latency_ms": Percentiles(p50=2.0, p90=3.0, p95=4.0, p99=5.0, max=9.0),
        "round_trip_ms": {"client": 0.1, "network": 0.3, "wait": 0.1, "inference": 1.0, "reply": 0.1},
        "batch_rows_mean": 8.0,
        "batch_sizes": {"8": 100},
        "inference_busy": 0.3,
        "learner_busy": 0.2,
        "back_pressure": 0.01,
        "updates_per_s": 5.0,
        "stepping": 0.0,
        "machine_busy": 0.3,
        "machine_cores": 4,
        "server_is_here": True,
        "errors": {},
        "error_example": "",
    }
    return Measurement(
        load=Load(clients=4, envs_per_client=8, rate=rate),
        processes={name: use(value) for name, value in cores.items()},
        **(quiet | other),
    )


FULL: dict[str, Any] = {"machine_busy": 0.99}
BLIND: dict[str, Any] = dict.fromkeys(
    ("inference_busy", "learner_busy", "back_pressure", "updates_per_s", "batch_rows_mean")
)
WAITING: dict[str, Any] = {
    "round_trip_ms": {"client": 0.1, "network": 0.3, "wait": 3.0, "inference": 1.0, "reply": 0.1}
}
FAR: dict[str, Any] = {"round_trip_ms": {"client": 0.1, "network": 30.0, "wait": 0.1, "inference": 1.0, "reply": 0.1}}


def status(**changes: Any) -> ServerStatus:
    """What a server told of 10 s: 4 streams that ask 100 times a second, 1,000 requests of 4 ms."""
    stages = {
        "residence": Stage(4.0, 1000),
        "wait": Stage(1.0, 1000),
        "inference": Stage(2.0, 1000),
        "reply": Stage(0.2, 1000),
        "remember": Stage(0.5, 1000),
        "update": Stage(3.0, 60),
        "back_pressure": Stage(0.1, 60),
    }
    facts: dict[str, Any] = {
        "uptime_s": 10.0,
        "num_slots": 64,
        "used_slots": 32,
        "streams": 4,
        "counters": {
            "messages": 1000.0,
            "agent_steps": 8000.0,
            "batches": 1000.0,
            "batch_rows": 8000.0,
            "updates": 60.0,
        },
        "stages": stages,
        "batch_sizes": (),
        "processes": {"device": ProcessUse(5.0, 1), "frontend-0": ProcessUse(2.0, 1)},
    }
    stages |= changes.pop("stages", {})
    return ServerStatus(**(facts | changes))


def training(machine_busy: float | None = 0.5, **changes: Any) -> Figures:
    """Of a server whose clients tell nothing, on a machine of 4 cores."""
    return figures_of(status(**changes), machine_busy=machine_busy, num_cores=4)


CASES: dict[str, tuple[Measurement | Figures, Cause, tuple[str, ...]]] = {
    "a training whose environments are slow": (
        training(),
        "environments",
        ("clients spend 90%", "inference is busy 25%, the learner 30%", "faster environments"),
    ),
    "a training on a full machine, most of it environments": (
        training(machine_busy=0.97),
        "environments",
        ("inference is busy 25%, the learner 30%, all cores 97%", "0.70 of 4", "More cores"),
    ),
    "a training on a full machine, most of it the server": (
        training(machine_busy=0.97, processes={"device": ProcessUse(30.0, 1)}),
        "machine",
        ("3.00 of 4", "GPU"),
    ),
    "a training whose learner is slow": (
        training(stages={"back_pressure": Stage(4.0, 60)}),
        "learner",
        ("40%", "6.0 updates/s"),
    ),
    "a training whose learner takes longer than one looks": (
        training(stages={"back_pressure": Stage(25.0, 1)}),
        "learner",
        ("100% of the time",),
    ),
    "a training that waits for its learner all the while": (
        training(counters={}, hands_over=True),
        "learner",
        ("100% of the time", "0.0 updates/s"),
    ),
    "a training whose requests wait for one another": (
        training(machine_busy=None, stages={"residence": Stage(36.0, 1000), "wait": Stage(33.0, 1000)}),
        "waiting",
        ("33.00 of",),
    ),
    "a server without clients": (training(streams=0, counters={}), "idle", ("no environment asks",)),
    "clients that ask for nothing": (training(counters={}), "idle", ("no environment asks",)),
    "errors": (
        measurement(errors={"disconnected": 3}, error_example="gone", processes={"driver-0": 1.0}),
        "errors",
        ("3 x disconnected", "gone"),
    ),
    "clients": (measurement(processes={"driver-1": 0.97}, **FULL), "clients", ("0.97", "--processes")),
    "clients fill their machine": (
        measurement(processes={"driver-0": 0.8, "driver-1": 0.8}, server_is_here=False, **FULL),
        "clients",
        ("3.96 of this machine's 4 cores", "1.60", "another machine"),
    ),
    "learner": (
        measurement(back_pressure=0.4, inference_busy=0.5, processes={"device": 1.6}, **FULL),
        "learner",
        ("40%", "5.0 updates/s", "--no-train"),
    ),
    "frontend": (measurement(processes={"frontend-1": 0.93}), "frontend", ("0.93", "--frontends")),
    "inference": (measurement(inference_busy=0.9, processes={"device": 0.6}), "inference", ("90%", "8.0 rows")),
    "inference on a full machine": (
        measurement(inference_busy=0.9, processes={"device": 0.98}, **FULL),
        "inference",
        ("90%",),
    ),
    "machine": (
        measurement(inference_busy=0.9, processes={"device": 0.6, "frontend-0": 0.5}, **FULL),
        "machine",
        ("synthetic clients 0.20, the server 1.10, other programs 2.66",),
    ),
    "environments": (measurement(stepping=0.8), "environments", ("80%", "More clients")),
    "waiting for company": (measurement(**WAITING), "waiting", ("3.00 of 4.50 ms", "--max-wait-ms")),
    "latency": (measurement(), "latency", ("inference takes 1.00 of 1.60 ms", "Add clients")),
    "a far server": (measurement(**FAR), "latency", ("the frontend and the network takes 30.00", "nearer")),
    "a server that tells nothing": (measurement(**BLIND), "unknown", ("tells nothing",)),
    "nearly full": (
        measurement(inference_busy=0.75, **WAITING),
        "unknown",
        ("inference comes nearest with 75%", "Add clients"),
    ),
    "a rate that is reached": (measurement(rate=1010), "none", ("1,010 agent steps/s are sustained", "5.0 ms")),
    "a rate that is missed": (
        measurement(rate=4000),
        "rate",
        ("of 4,000 agent steps/s asked, 1,000 came", "nothing is saturated", "more clients"),
    ),
    "a rate that is missed, and nothing told": (measurement(rate=4000, **BLIND), "rate", ("tells nothing",)),
    "a rate that is missed because of a stage": (
        measurement(rate=4000, processes={"frontend-0": 0.97}),
        "frontend",
        ("of 4,000 agent steps/s asked, 1,000 came", "0.97", "--frontends"),
    ),
    "errors at a rate": (measurement(rate=1000, errors={"LeaseLost": 1}), "errors", ("1 x LeaseLost",)),
}


@pytest.mark.parametrize("name", CASES)
def test_verdict(name: str) -> None:
    found, stage, words = CASES[name]
    verdict = judge(found.figures if isinstance(found, Measurement) else found)
    assert verdict.stage == stage, verdict
    assert [word for word in words if word not in str(verdict)] == [], str(verdict)


def test_every_cause_has_a_case() -> None:
    assert {stage for _, stage, _ in CASES.values()} == set(typing.get_args(Cause))


@pytest.mark.parametrize("stepping", [0.0, 0.9])
def test_in_an_open_loop_environments_are_never_the_bottleneck(stepping: float) -> None:
    assert judge(measurement(rate=4000, stepping=stepping).figures).stage == "rate"


def test_a_verdict_reads_as_sentences() -> None:
    assert str(Verdict("none", "It holds", "Ask for more")) == "none: It holds. Ask for more."
