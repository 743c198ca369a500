"""Writes the pages of docs/ that are made from the code. `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from generators import api, code, exit_codes, options, prometheus, wire

DOCS = Path(__file__).resolve().parent
PAGES: Mapping[str, Callable[[], str]] = {
    "code.md": code.page,
    "reference/api.md": api.page,
    "reference/exit-codes.md": exit_codes.page,
    "reference/options.md": options.options_page,
    "reference/presets.md": options.presets_page,
    "reference/prometheus.md": prometheus.page,
    "reference/wire.md": wire.page,
}


def main() -> int:
    """Writes them, or says which are out of date."""
    stale = []
    for name, make in PAGES.items():
        page, file = make().rstrip("\n") + "\n", DOCS / name
        if file.exists() and file.read_text() == page:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            file.parent.mkdir(exist_ok=True)
            file.write_text(page)
    if stale and "--check" in sys.argv:
        print(f"out of date, run `make docs`: {', '.join(f'docs/{name}' for name in stale)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
