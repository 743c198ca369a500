"""Actions and observations of every kind of space through real processes: the learner sees what acted, and learns.

With a learning rate of 0 policies stay equal, so every log rho is a rounding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seedbed
from tests.system.processes import FAST, Program, read_metrics, run

pytestmark = pytest.mark.system

MASKED = "seedbed/CatchMasked-v0,strict=1"
PENDULUM = ("--env", "Pendulum-v1", "--core", "lstm", "--core-size", 16)
FORBIDDEN = "it is forbidden here"
SMALL = (*FAST, "--unroll-length", 5)
MAZE = ("--env", "seedbed/IMaze-v0", "--core", "gtrxl", "--core-size", 16, "--core-memory", 12)


def trained(tmp_path: Path, *options: Any) -> list[dict[str, Any]]:
    """The lines of a training's metrics in which something was learnt."""
    run_dir = tmp_path / "run"
    done = run("train", *options, "--run-dir", run_dir, within_s=900.0)
    done.assert_well()
    assert FORBIDDEN not in done.stderr
    return [line for line in read_metrics(run_dir) if line.get("abs_log_rho_max") is not None]


def scores(run_dir: Path, *options: Any) -> dict[str, Any]:
    file = run_dir / "scores.json"
    done = run("eval", run_dir, "--json", file, *options, within_s=900.0)
    done.assert_well()
    assert FORBIDDEN not in done.stderr
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((*PENDULUM, "--algorithm", "vtrace", "--squash"), marks=pytest.mark.slow),
        pytest.param(
            ("--env", "seedbed/Lights-v0,space=dict", "--algorithm", "a3c", "--deviation", "shared"),
            marks=pytest.mark.slow,
        ),
        ("--env", MASKED, "--algorithm", "vtrace"),
        pytest.param((*MAZE, "--algorithm", "vtrace"), marks=pytest.mark.slow),
    ],
    ids=["squashed box, memories", "dict", "mask", "gtrxl"],
)
def test_learner_and_inference_agree(options: tuple[Any, ...], tmp_path: Path) -> None:
    """Of rows that waited in a queue: with moments that are frozen, or none."""
    still = ("--learning-rate", 0, "--normalise-observations", "off")
    lines = trained(tmp_path, *SMALL, *options, *still, "--max-steps", 1500)
    assert max(line["policy_lag_max"] for line in lines) > 0, "nothing was off-policy by version: nothing was tested"
    assert max(line["abs_log_rho_max"] for line in lines) < 1e-4
    assert min(line["effective_sample_share"] for line in lines) == pytest.approx(1.0, abs=1e-4)


def test_in_rounds_they_agree_while_moments_of_observations_move(tmp_path: Path) -> None:
    """Merged before the steps of their update, they would give a row another policy than that which acted."""
    still = ("--algorithm", "a2c", "--learning-rate", 0, "--normalise-observations", "on")
    lines = trained(tmp_path, *SMALL, *PENDULUM, *still, "--max-steps", 1500)
    assert max(line["policy_lag_max"] for line in lines) == 0
    assert max(line["observation_shift"] for line in lines) > 1e-3, "they do not move: nothing was tested"
    assert max(line["abs_log_rho_max"] for line in lines) < 1e-4


def test_several_switches_are_learnt(tmp_path: Path) -> None:
    """The fast one of those below."""
    options = ("--algorithm", "vtrace", "--learning-rate", 5e-3, "--entropy-cost", 0, "--target-return", 0.85)
    trained(tmp_path, "--env", "seedbed/Lights-v0", *FAST, "--unroll-length", 4, *options, "--max-steps", 40_000)
    assert max(line["cohort_return_mean"] or 0.0 for line in read_metrics(tmp_path / "run")) > 0.8, "0.5 is chance"


def test_a_policy_that_is_not_finite_ends_the_run_and_leaves_its_last_checkpoint(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    plant = f"""
from pathlib import Path
from seedbed.server.learning.learner import Learner
update = Learner.update
def planted(self, *arguments):
    found = update(self, *arguments)
    if any(Path("{checkpoints}").glob("checkpoint-*")):
        self.network.policy.bias.detach().fill_(float("inf"))
    return found
Learner.update = planted
"""
    options = ("--env", "seedbed/Reach-v0", "--algorithm", "ppo", *SMALL, "--checkpoint-interval-s", 0.5)
    with Program("train", *options, "--run-dir", tmp_path, "--max-steps", 10**6, prelude=plant) as training:
        assert training.wait() == 1
        training.assert_alone()
        assert "expected finite" in training.stderr.splitlines()[-1], "actions, or what would be saved: who is first"
        assert "Traceback" not in training.stderr
    policy = seedbed.load(tmp_path)
    assert policy.agent_steps > 0
    action, _ = policy.act(np.array([0.5], np.float32), policy.initial_memory())
    assert abs(action[0]) <= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_forbidden_is_done_in_a_hundred_thousand_steps(tmp_path: Path) -> None:
    """In learning and greedily: a forbidden move would end the client with an error."""
    num_steps = 100_000
    trained(tmp_path, "--env", MASKED, *FAST, "--max-steps", num_steps, "--learning-rate", 2e-3)
    for greedy in ("--greedy", "--no-greedy"):
        assert scores(tmp_path / "run", greedy, "--episodes", num_steps // 9 + 1)["episodes"] > num_steps // 9


LEARNT = {
    "multi-discrete": (("--env", "seedbed/Lights-v0"), 0.93),
    "multi-binary": (("--env", "seedbed/Lights-v0,space=multi_binary"), 0.93),
    "tuple": (("--env", "seedbed/Lights-v0,space=tuple"), 0.93),
    "dict": (("--env", "seedbed/Lights-v0,space=dict", "--unroll-length", 16), 0.93),
    "box": (("--env", "seedbed/Lights-v0,space=box", "--unroll-length", 16), 0.93),
    "squashed box": (("--env", "seedbed/Reach-v0", "--algorithm", "ppo", "--squash", "--unroll-length", 40), -1.0),
    "mask": (("--env", "seedbed/CatchMasked-v0"), 0.9),
    "dict of image and number": (("--env", "seedbed/CatchDict-v0"), 0.9),
}
"""Options beside --learning-rate; mean return that is reached."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LEARNT)
def test_every_space_is_learnt(name: str, tmp_path: Path) -> None:
    options, target = LEARNT[name]
    more = ("--learning-rate", 2e-3, "--target-return", target, "--max-steps", 300_000)
    trained(tmp_path, *options, "--device", "cpu", *more)
    assert max(line["cohort_return_best"] or -99.0 for line in read_metrics(tmp_path / "run")) >= target
