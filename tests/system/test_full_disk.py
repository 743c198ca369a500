"""A disk that is really full, and a log that nobody reads: what nobody needs costs no run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seedbed.server.run.checkpoint import load_newest
from seedbed.server.run.directory import METRICS_FILE
from tests.reference.small_disk import fill, small_disk
from tests.system.processes import FAST, START_S, Program

pytestmark = pytest.mark.system

UNSAVED = 74


def steps_of(run_dir: Path) -> int:
    checkpoint = load_newest(run_dir / "checkpoints")
    return 0 if checkpoint is None else checkpoint.agent_steps


def lines_of(run_dir: Path) -> list[dict[str, float]]:
    """Of metrics.jsonl, each of which must be whole."""
    return [json.loads(line) for line in (run_dir / METRICS_FILE).read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_disk_costs_records_and_no_run(tmp_path: Path) -> None:
    """Metrics, events and checkpoints go on when there is room again; without it at the end the exit code tells."""
    with small_disk(tmp_path / "disk", "8m") as disk:
        outlive(disk, disk / "run")


def outlive(disk: Path, run_dir: Path) -> None:
    options = ("--checkpoint-interval-s", 0.5, "--run-dir", run_dir, "--target-return", 1000, "--max-steps", 10**8)
    with Program("train", "--preset", "cartpole", *FAST, *options) as program:
        program.eventually(lambda: run_dir.exists() and steps_of(run_dir) > 0 and len(lines_of(run_dir)) > 2, "records")
        ballast = fill(disk)
        program.eventually(lambda: program.stderr.count("no checkpoint was written") > 2, "failures")
        before, events = steps_of(run_dir), len(list(run_dir.glob("events.*")))
        ballast.unlink()
        program.eventually(lambda: steps_of(run_dir) > before, "a checkpoint again")
        program.eventually(lambda: lines_of(run_dir)[-1]["agent_steps"] > before, "metrics again")
        program.eventually(lambda: len(list(run_dir.glob("events.*"))) > events, "events again")
        fill(disk)
        program.send(signal.SIGTERM)
        assert program.wait() == UNSAVED
        assert "the last checkpoint could not be written" in program.stderr.splitlines()[-1]
        assert "Traceback" not in program.stderr
        program.assert_alone()
    steps = [line["agent_steps"] for line in lines_of(run_dir)]
    assert steps == sorted(steps)


def test_a_log_that_nobody_reads_any_more_costs_nothing(tmp_path: Path) -> None:
    """As in `seedbed train 2>&1 | head -1`."""
    options = (*FAST, "--target-return", "none", "--max-steps", 3000, "--run-dir", tmp_path / "run")
    command = [sys.executable, "-m", "seedbed.server", "train", "--preset", "catch", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as training:
        assert training.stdout is not None
        assert training.stdout.readline()
        training.stdout.close()
        assert training.wait(START_S) == 0
    assert steps_of(tmp_path / "run") >= 3000
