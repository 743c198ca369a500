"""Arrays of every kind through real processes, and what is learnt is what acts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.processes import FAST, Program, read_metrics

pytestmark = pytest.mark.system

ENVIRONMENT = "tests.env_client.environments.shown_kinds:EveryKind"


@pytest.mark.parametrize(
    ("algorithm", "normalised"), [("vtrace", "off"), pytest.param("ppo", "on", marks=pytest.mark.slow)]
)
def test_every_kind_is_shown_and_read_alike_by_actors_and_learner(
    algorithm: str, normalised: str, tmp_path: Path
) -> None:
    """With a learning rate of 0 policies stay equal, so every log rho is a rounding; in rounds while moments change."""
    options = ("--learning-rate", 0, "--precision", "float32", "--unroll-length", 5, "--max-steps", 400)
    chosen = ("--algorithm", algorithm, "--normalise-observations", normalised)
    with Program("train", "--env", ENVIRONMENT, *FAST, *options, *chosen, "--run-dir", tmp_path / "run") as training:
        assert training.wait() == 0, training.stderr
        assert "Traceback" not in training.stderr
    lines = [line for line in read_metrics(tmp_path / "run") if line.get("abs_log_rho_max") is not None]
    assert lines
    assert max(line["abs_log_rho_max"] for line in lines) < 1e-4
    assert (max(line.get("observation_shift", 0.0) for line in lines) > 1e-3) == (normalised == "on")
