"""docs/faults.md: every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "faults.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)


def test_every_fault_has_a_test() -> None:
    assert len(ROWS) > 40
    assert all("::" in row.split("|")[3] for row in ROWS)


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_it_exists(file: str, name: str) -> None:
    assert f"def {name}(" in (TESTS / file).read_text()
