"""Actor-learner distillation through real processes: the actor is what was recorded, and learns what the other saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.processes import FAST, read_metrics, run

pytestmark = [pytest.mark.system, pytest.mark.slow]

MEMORY = ("--preset", "memory", "--algorithm", "ald", "--device", "cpu")


@pytest.mark.timeout(900)
def test_with_learning_rate_0_the_actor_is_what_was_recorded(tmp_path: Path) -> None:
    """From stored states, over the burn-in, in unrolls that are drawn again; the large network is another policy."""
    done = run(
        "train", *MEMORY, *FAST, "--learning-rate", 0, "--max-steps", 3000, "--run-dir", tmp_path, within_s=800.0
    )
    done.assert_well()
    lines = [line for line in read_metrics(tmp_path) if line.get("actor_drift_max") is not None]
    assert max(line["policy_lag_max"] for line in lines) > 0, "nothing was off-policy by version: nothing was tested"
    assert max(line["actor_drift_max"] for line in lines) < 1e-4
    assert max(line["abs_log_rho_max"] for line in lines) > 1e-4
    assert all(line["optimiser_steps"] % 5 == 0 for line in lines), "one from reward and four of distillation"


@pytest.mark.timeout(1600)
def test_an_lstm_that_is_paid_nothing_solves_a_memory_chain_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    for target, steps in ((0.5, 60_000), (0.9, 120_000)):
        options = ("--target-return", target, "--max-steps", steps, "--run-dir", tmp_path)
        run("train", *MEMORY, *options, within_s=1500.0).assert_well()
    assert max(line["cohort_return_mean"] or 0.0 for line in read_metrics(tmp_path)) >= 0.9
