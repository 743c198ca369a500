"""Memories by attention through real processes: what they remember beyond an unroll, and what they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.system.processes import read_metrics, run

pytestmark = [pytest.mark.system, pytest.mark.slow]

CHAIN = ("--preset", "memory", "--env", "seedbed/MemoryChain-v0,length=30", "--core", "gtrxl", "--unroll-length", 16)


def best_cohort(run_dir: Path, *options: Any) -> float:
    """Of a memory chain of length 30, almost twice as long as an unroll."""
    done = run("train", *CHAIN, "--device", "cpu", *options, "--run-dir", run_dir, within_s=1500.0)
    done.assert_well()
    return max(line["cohort_return_mean"] or 0.0 for line in read_metrics(run_dir))


@pytest.mark.timeout(1600)
def test_gtrxl_solves_a_chain_that_is_longer_than_its_unrolls(tmp_path: Path) -> None:
    assert best_cohort(tmp_path, "--target-return", 0.9, "--max-steps", 120_000) >= 0.9


@pytest.mark.timeout(1600)
def test_what_is_further_back_than_all_windows_together_reach_is_forgotten(tmp_path: Path) -> None:
    """The control: two layers of 8 rows see 16 rows back, and the cue is 30 back. 128 episodes at random: 0 +- 0.09."""
    assert best_cohort(tmp_path, "--core-memory", 8, "--max-steps", 40_000) < 0.4
