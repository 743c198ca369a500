"""An interval's line to a person."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from seedbed.common.specs import EnvironmentSpec, discrete
from seedbed.server.monitoring.interval_log import IntervalLog
from seedbed.server.monitoring.learning_signs import LearningSigns
from seedbed.server.monitoring.metrics import MetricsWriter
from seedbed.server.monitoring.progress import Status
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.run import FleetConfig
from seedbed.server.run.state import RunState
from seedbed.server.shared.vitals import VitalsTable

SPEC = EnvironmentSpec(environment="x", observations=(discrete("o", 2),), actions=(discrete("a", 3),))


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
    log = IntervalLog(
        config, SPEC, MetricsWriter(tmp_path, resume_step=0, resume_wall_s=0.0), shown, signs, waiting_for="far:7777"
    )
    vitals = VitalsTable(0)
    vitals.device["live_rows"] = rows
    log.log(RunState(), vitals, {}, scored=scored)
    log.close(None, RunState())
    assert shown.waiting_for == [waiting_for]
