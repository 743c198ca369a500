"""The tables of learning: which runs there are, what counts as done, and how their rows read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seedbed.server.algorithms.registry import ALGORITHMS
from seedbed.server.presets.registry import PRESETS
from seedbed.server.run.directory import METRICS_FILE
from tests.bench import learning
from tests.bench.learning import ENTRIES, Outcome, is_finished, read_outcome, row


def make_run(run: Path, score: float | None, said: str = "reached 500,000 agent steps; 500,000 agent steps") -> Path:
    """A run directory as `seedbed train` leaves it, and what it said beside it."""
    run.mkdir(parents=True)
    lines = [
        {
            "cohort_return_mean": value,
            "cohort_return_median": value,
            "agent_steps": 1000 * step,
            "updates": step,
            "wall_s": 60.0 * step,
        }
        for step, value in ((1, 1.0), (2, score))
    ]
    (run / METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.with_suffix(".log").write_text(f"INFO serving\n{said}\nscore     seedbed eval {run}\n")
    return run


def outcome(seed: int, score: float, *, reached: bool, **more: float) -> Outcome:
    last = {"cohort_return_mean": score, "agent_steps": 12_345, "updates": 67, "wall_s": 90.0, **more}
    return Outcome(seed, reached, last)


def test_every_algorithm_meets_every_task_once() -> None:
    assert {*learning.ALGORITHMS, *learning.CONTINUOUS, *learning.RECURRENT} == set(ALGORITHMS)
    by_hand = {"pong", "detour"}  # hours; and a bound must be named
    assert {entry.preset for entry in ENTRIES} == set(PRESETS) - by_hand
    assert len({(entry.preset, entry.name) for entry in ENTRIES}) == len(ENTRIES)
    controls = {entry.algorithm for entry in ENTRIES if "--core" in entry.options}
    assert {"r2d2", "apex"} <= controls


def test_a_run_is_done_when_it_said_so(tmp_path: Path) -> None:
    assert not is_finished(tmp_path / "nothing", 60)
    assert is_finished(make_run(tmp_path / "seed-0", 3.0), 60)
    assert not is_finished(make_run(tmp_path / "seed-1", 3.0, "stopped; 7 agent steps"), 60)
    assert not is_finished(make_run(tmp_path / "seed-2", 3.0).joinpath("elsewhere"), 60)
    out_of_time = make_run(tmp_path / "seed-3", 3.0, "reached 60 s; 7 agent steps")
    assert is_finished(out_of_time, 60)
    assert not is_finished(out_of_time, 61), "given more time, it goes on"


def test_what_is_done_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ENTRIES[0]
    commands: list[list[str]] = []
    monkeypatch.setattr(learning.subprocess, "run", lambda command, **_: commands.append(command))
    done = make_run(tmp_path / entry.preset / entry.name / "seed-0", 480.0)
    assert learning.train(entry, 0, 60, tmp_path) == done
    assert not commands
    missing = learning.train(entry, 1, 60, tmp_path)
    assert str(missing) in commands[0]


def test_an_outcome_is_the_last_line(tmp_path: Path) -> None:
    found = read_outcome(make_run(tmp_path / "seed-3", 475.0), target=475)
    assert (found.seed, found.reached, found.last["agent_steps"]) == (3, True, 2000)
    assert not read_outcome(make_run(tmp_path / "seed-4", 474.9), target=475).reached
    assert not read_outcome(make_run(tmp_path / "seed-5", None), target=475).reached


def test_a_row_marks_what_failed() -> None:
    outcomes = [outcome(0, 476.4, reached=True), outcome(1, 321.0, reached=False)]
    assert row("a2c", outcomes) == "| `a2c` | 0: 476; 1: **321** | 12, 12 | 67, 67 | - | 1.5, 1.5 |"


def test_a_row_of_a_replay_says_how_often_it_was_read() -> None:
    outcomes = [outcome(0, 0.925, reached=True, replay_samples_per_insert=15.96)]
    assert row("apex", outcomes) == "| `apex` | 0: 0.93 | 12 | 67 | 16.0 | 1.5 |"
