"""An interval's line to a person."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from seedbed.common.specs import EnvironmentSpec, discrete
from seedbed.server.monitoring.interval_log import IntervalLog
from seedbed.server.monitoring.learning_signs import LearningSigns
from seedbed.server.monitoring.metrics import MetricsWriter, read_metrics
from seedbed.server.monitoring.progress import Status
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.run import FleetConfig
from seedbed.server.run.state import RunState
from seedbed.server.shared.spread import Spread
from seedbed.server.shared.vitals import VitalsTable
from seedbed.server.trackers.interface import TrackedRun
from seedbed.server.trackers.tracking import Tracking

SPEC = EnvironmentSpec(environment="x", observations=(discrete("o", 2),), actions=(discrete("a", 3),))

RUN = TrackedRun(name="x", directory=Path(), config={}, environment="x", version="0")
NOWHERE = Tracking({}, RUN)


class Shown:
    """A display that keeps what it was told."""

    def __init__(self) -> None:
        self.waiting_for: list[str | None] = []

    def introduce(self, lines: Sequence[str]) -> None:
        pass

    def update(self, status: Status) -> None:
        self.waiting_for.append(status.waiting_for)

    def close(self, summary: str, advice: Sequence[str] = ()) -> None:
        pass


@pytest.mark.parametrize(
    ("rows", "scored", "waiting_for"),
    [
        (0, False, "seedbed env --server far:7777"),
        (
            16,
            False,
            "a score: it is that of environments 24 to 31, the last of --num-envs 32, and none of them has joined",
        ),
        (16, True, None),
    ],
)
def test_what_a_run_or_its_score_waits_for_is_said(
    tmp_path: Path, rows: int, scored: bool, waiting_for: str | None
) -> None:
    config = ServerConfig(fleet=FleetConfig(num_envs=32, num_greedy_envs=8))
    shown = Shown()
    signs = LearningSigns(config.run, SPEC)
    writer = MetricsWriter(tmp_path, resume_step=0, resume_wall_s=0.0)
    log = IntervalLog(config, SPEC, writer, NOWHERE, shown, signs, waiting_for="far:7777")
    vitals = VitalsTable(0)
    vitals.device["live_rows"] = rows
    log.log(RunState(), vitals, {}, scored=scored)
    log.close(None, RunState())
    assert shown.waiting_for == [waiting_for]


def test_spreads_are_quantiles_in_the_file_and_histograms_in_trackers(tmp_path: Path) -> None:
    told: list[tuple[object, ...]] = []

    class Told:
        def start(self, run: TrackedRun) -> None:
            told.append(("start", run.name))

        def log(self, metrics: Mapping[str, float], step: int) -> None:
            told.append(("log", metrics["train/log_rho_p50"], metrics["time/total_timesteps"], step))

        def histograms(self, histograms: Mapping[str, Spread], step: int) -> None:
            told.append(("histograms", *histograms.items(), step))

        def finish(self, summary: Mapping[str, Any]) -> None:
            told.append(("finish", summary))

    config = ServerConfig()
    writer = MetricsWriter(tmp_path, resume_step=0)
    signs = LearningSigns(config.run, SPEC)
    log = IntervalLog(config, SPEC, writer, Tracking({"told": Told}, RUN), Shown(), signs, waiting_for=None)
    spread = Spread(0.0, 1.0, (3, 4), 5.0, 4.0, (0.1, 0.2, 0.3, 0.4, 0.5))
    state = RunState(agent_steps=70, updates=7)
    log.log(state, VitalsTable(0), {}, spreads={"log_rho": spread})
    log.close("the step limit", state)
    (line,) = read_metrics(tmp_path)
    assert {key: value for key, value in line.items() if key.startswith("log_rho")} == {
        "log_rho_p05": 0.1,
        "log_rho_p25": 0.2,
        "log_rho_p50": 0.3,
        "log_rho_p75": 0.4,
        "log_rho_p95": 0.5,
    }
    assert told == [
        ("start", "x"),
        ("log", 0.3, 70, 70),
        ("histograms", ("histograms/log_rho", spread), 70),
        ("finish", {"ended": "the step limit", "failed": False, "agent_steps": 70, "updates": 7}),
    ]
