"""Notes of one release, from CHANGELOG.md: `python docs/release_notes.py X.Y.Z`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parent.parent / "CHANGELOG.md"


def notes(text: str, version: str) -> str:
    """The section of a version, without its heading.

    Raises:
        SystemExit: there is none, or it has no date yet.
    """
    found = re.search(rf"^## \[{re.escape(version)}\] - (\S+)\n(.*?)(?=^## \[|\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"expected a section [{version}] in {CHANGELOG.name}")
    date, section = found.groups()
    if re.fullmatch(r"\d{4}-\d\d-\d\d", date) is None:
        raise SystemExit(f"expected the date of [{version}] in {CHANGELOG.name}, got {date!r}")
    return section.strip() + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("expected one version")
    print(notes(CHANGELOG.read_text(), sys.argv[1]), end="")
