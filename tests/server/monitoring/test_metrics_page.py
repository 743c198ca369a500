"""docs/metrics.md against the code. tests/system compares it with what runs write."""

from __future__ import annotations

import re
from pathlib import Path

from seedbed.server.monitoring.metrics import REQUIRED, tag_of

ROOT = Path(__file__).resolve().parents[3]


def names_on_page() -> dict[str, str]:
    """Key -> name in TensorBoard, as docs/metrics.md has them."""
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\S+)` )?\|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    assert len(dict(rows)) == len(rows), "a name stands twice"
    return dict(rows)


def test_names_in_tensorboard() -> None:
    named = names_on_page()
    assert named.pop("frames") == ""
    assert named == {key: tag_of(key) for key in named}
    assert set(REQUIRED) <= {*named, "frames"}


def test_every_name_is_one_of_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "server").rglob("*.py"))
    assert [name for name in names_on_page() if f'"{name}"' not in code] == []
