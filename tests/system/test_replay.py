"""R2D2 through the whole system: stored states with burn-in, and a replay that survives a stop."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.processes import FAST, Program, read_metrics, run

pytestmark = pytest.mark.system

OPTIONS = ["--preset", "memory", "--algorithm", "r2d2", *FAST, "--replay-min-size", "40", "--checkpoint-replay"]


def _learned(run_dir: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run_dir) if "q_drift_max" in line]


@pytest.mark.timeout(400)  # three programs one after the other, each half a minute from its start on a crowded machine
def test_replayed_burn_in_gives_the_q_values_that_were_acted_on_and_the_replay_survives(tmp_path: Path) -> None:
    """With learning rate 0; over many episodes, over a broken connection, and over a restart of the server."""
    with Program("train", *OPTIONS, "--learning-rate", 0, "--run-dir", tmp_path) as training:
        training.eventually(lambda: _learned(tmp_path), "a train batch")
        server = psutil.Process(training.process.pid)
        assert training.clients()
        assert all(client.nice() == min(19, server.nice() + 5) for client in training.clients())
        training.frontends()[0].kill()
        before = _learned(tmp_path)[-1]["updates"]
        training.eventually(lambda: _learned(tmp_path)[-1]["updates"] >= before + 15, "more updates")
        training.send(signal.SIGTERM)
        assert training.wait() == 0
    first = _learned(tmp_path)
    assert max(line["q_drift_max"] for line in first) < 1e-4
    assert first[-1]["q_value_mean"] != 0

    with Program("train", *OPTIONS, "--learning-rate", 0, "--run-dir", tmp_path) as training:
        training.eventually(lambda: len(_learned(tmp_path)) > len(first), "a train batch after the restart")
        training.send(signal.SIGTERM)
        assert training.wait() == 0
        assert "empty replay" not in training.stderr
    again = _learned(tmp_path)[len(first) :]
    assert again[0]["replay_unrolls"] >= first[-1]["replay_unrolls"] >= 40
    assert max(line["q_drift_max"] for line in again) < 1e-4

    done = run("eval", "--checkpoint", tmp_path, "--episodes", 4, "--eval-envs", 2, "--json", "-")
    done.assert_well()
    assert json.loads(done.stdout)["policy"] == "greedy", "exploration is no part of what was learnt"
