"""A bound on the variance of rewards through real processes, on a task whose optimum is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.system.processes import read_metrics, run

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("alpha", "steps", "mean", "variance"), [(1, 400_000, 1.158, 1.0), (20, 100_000, 1.485, 10.7)])
def test_detour_pays_as_much_as_its_bound_allows(
    alpha: float, steps: int, mean: float, variance: float, tmp_path: Path
) -> None:
    """Averages over the second half of the run: the optimum is random, and policy and multiplier move about it."""
    options = ("--preset", "detour", "--risk-variance", alpha, "--max-steps", steps, "--device", "cpu")
    run("train", *options, "--run-dir", tmp_path, within_s=2300.0).assert_well()
    lines = [line for line in read_metrics(tmp_path) if line.get("reward_mean") is not None]
    late = lines[len(lines) // 2 :]
    names = ("reward_mean", "reward_variance", "risk_multiplier")
    found = {name: float(np.mean([line[name] for line in late])) for name in names}
    assert found["reward_mean"] == pytest.approx(mean, abs=0.015)
    assert found["reward_variance"] == pytest.approx(variance, abs=0.06 * alpha)
    assert (found["risk_multiplier"] > 0.1) if alpha == 1 else (found["risk_multiplier"] < 0.005)
