"""What several tests of the whole system share, because starting a training takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.processes import FAST, run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that has reached its stop condition. Read it, or copy it; do not change it."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    run("train", "--preset", "cartpole", *FAST, "--max-steps", 3000, "--run-dir", run_dir).assert_well()
    return run_dir
