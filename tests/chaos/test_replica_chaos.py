"""The chaos of several learners: its schedule, what it takes for a violation, and a round of it."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.replicas import PATIENCE_S, Kind, make_schedule, violations_of

ROOT = Path(__file__).resolve().parents[2]


def test_a_seed_gives_a_schedule_with_every_kind() -> None:
    first, again, other = (list(itertools.islice(make_schedule(seed), 14)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert {fault.kind for fault in first[:7]} == set(Kind)
    assert all(fault.seconds >= PATIENCE_S for fault in first if fault.kind is Kind.STARVE)


@pytest.mark.parametrize(
    ("kind", "resumed", "restarts", "words"),
    [
        (Kind.KILL_OTHER, 19, 1, "no fewer than 20 updates"),
        (Kind.KILL_FIRST, 14, 1, "no fewer than 15 updates"),
        (Kind.KILL_FIRST, 15, 0, "nobody noticed"),
        (Kind.FREEZE, 20, 1, "started again"),
        (Kind.RESIZE, 19, 0, "no fewer than 20"),
    ],
)
def test_what_is_a_violation(kind: Kind, resumed: int, restarts: int, words: str) -> None:
    [violation] = violations_of(kind, 20, 15, resumed, restarts)
    assert words in violation
    assert violations_of(kind, 20, 15, 20, 1 if "kill -9 " in kind and "learner" in kind else 0) == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_kind_once() -> None:
    """Another seed every time; it is printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.replicas", "--seconds", "1", "--at-least", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 faults, 0 violations" in done.stdout
