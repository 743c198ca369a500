"""Environments that fork beside gRPC, as simulators, multiprocessing and drivers do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.processes import FAST, run

pytest.importorskip("gymnasium")
pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_environments_may_fork_in_every_episode(tmp_path: Path) -> None:
    """Three children an episode, 200 episodes: none is ended by a signal, and no client is started again."""
    environment = ("--env", "tests.env_client.environments.odd_environments:Forks", "--import-from", Path.cwd())
    finished = run("train", *environment, *FAST, "--max-steps", 2000, "--run-dir", tmp_path)
    finished.assert_well()
    assert "SIG" not in finished.stderr
    assert "forked child" not in finished.stderr
