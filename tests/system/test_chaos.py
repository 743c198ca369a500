"""Random faults for a while, and not one invariant violated: see `tests.chaos`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
LEAST_FAULTS = 5


def _assert_well(directory: Path, *options: str | float, within_s: float) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--history", directory, *options]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=within_s, check=False
    )
    print(done.stdout, done.stderr)  # seed, faults, violations: pytest shows it on failure
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {what: int(number) for number, what in re.findall(r"^(\d+) (faults|steps|violations)", done.stdout, re.M)}
    assert counts["violations"] == 0
    assert counts["faults"] >= LEAST_FAULTS
    assert counts["steps"] > 100


@pytest.mark.timeout(240)
def test_half_a_minute_of_chaos(tmp_path: Path) -> None:
    """With patience for the first faults and at the end: the other tests may keep this machine busy."""
    more = ("--least-faults", LEAST_FAULTS, "--recovery-s", 60)
    _assert_well(tmp_path / "history", "--seconds", 26, "--seed", 1, "--pause-s", 0.4, *more, within_s=230)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_minutes_of_chaos(tmp_path: Path) -> None:
    """Another seed every time; it is printed."""
    _assert_well(tmp_path / "history", "--seconds", 600, within_s=840)
