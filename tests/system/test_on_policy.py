"""With learning rate 0 the learner computes the very logits that were sampled from, through the whole system.

So every observation, frame stack, last action, reward, agent state and row of an unroll is where it should be.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.system.processes import FAST, Program, read_metrics

pytestmark = pytest.mark.system

UPDATES = 15


def _learned(run_dir: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run_dir) if "abs_log_rho_max" in line]


@pytest.mark.parametrize(
    ("options", "name", "bound"),
    [
        pytest.param(["--preset", "cartpole"], "abs_log_rho_max", 1e-4, marks=pytest.mark.slow),
        pytest.param(["--preset", "memory"], "abs_log_rho_max", 1e-4, marks=pytest.mark.slow),  # test_algorithms.py
        (["--preset", "pong", "--precision", "float32"], "abs_log_rho_max", 1e-4),
        pytest.param(["--preset", "pong", "--precision", "bfloat16"], "abs_log_rho_mean", 1e-2, marks=pytest.mark.slow),
    ],
    ids=["feed-forward", "recurrent", "frame stacks", "bfloat16"],
)
def test_learner_and_inference_agree(options: list[str], name: str, bound: float, tmp_path: Path) -> None:
    """Over many episodes and over a broken connection: a frontend is killed on the way."""
    with Program("train", *options, *FAST, "--learning-rate", 0, "--run-dir", tmp_path) as training:
        training.eventually(lambda: _learned(tmp_path), "a train batch")
        training.frontends()[0].kill()
        before = _learned(tmp_path)[-1]["updates"]
        training.eventually(lambda: _learned(tmp_path)[-1]["updates"] >= before + UPDATES, "more updates")
        training.send(signal.SIGTERM)
        assert training.wait() == 0
        assert "frontend 0 is gone" in training.stderr
        assert "lease resumed" in training.stderr
    lines = _learned(tmp_path)
    assert max(line[name] for line in lines) < bound
    assert max(line["policy_lag_max"] for line in lines) > 0, "nothing was off-policy by version: nothing was tested"
    assert min(line["entropy"] for line in lines) > 0.1
