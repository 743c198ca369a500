"""A replay of transitions through the whole system: updates for each step, a restart, and a task that is learnt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.system.processes import FAST, read_metrics, run

pytestmark = pytest.mark.system

SMALL = ("--preset", "pendulum", *FAST, "--hidden-size", "8", "--replay-min-size", "100", "--random-steps", "100")


@pytest.mark.timeout(400)  # two programs one after the other, on a machine that may be crowded
def test_updates_keep_to_the_steps_and_the_replay_survives(tmp_path: Path) -> None:
    """2 for each step that is learnt from, but for what the last unrolls of all environments brought."""
    options = (*SMALL, "--updates-per-step", 2, "--unroll-length", 4, "--checkpoint-replay", "--run-dir", tmp_path)
    run("train", *options, "--max-steps", 800, within_s=150).assert_well()
    first = read_metrics(tmp_path)[-1]
    behind = 2 * 8 * 4 * 2  # unrolls of eight environments that wait, and those that are not complete
    assert first["updates"] == pytest.approx(2 * (first["agent_steps"] - 100), abs=2 * behind)
    assert first["replay_updates_per_step"] == pytest.approx(2, abs=0.15)

    run("train", *options, "--max-steps", 1000, within_s=150).assert_well()
    again = read_metrics(tmp_path)[-1]
    assert again["replay_transitions"] > first["replay_transitions"], "it goes on with what it held"
    assert again["updates"] > first["updates"] + 150


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_pendulum_is_learnt(tmp_path: Path) -> None:
    """A converged policy is at about -150; forgetting that time limits are no deaths takes longer than this."""
    run("train", "--preset", "pendulum", "--max-steps", 12_000, "--run-dir", tmp_path, within_s=1500).assert_well()
    assert read_metrics(tmp_path)[-1]["replay_updates_per_step"] == pytest.approx(1, abs=0.015)
    done = run("eval", tmp_path, "--episodes", 64, "--json", "-", within_s=200)
    done.assert_well()
    assert json.loads(done.stdout)["mean"] > -200
