"""Executes a notebook from top to bottom and keeps what its cells print: `python examples/run_notebook.py FILE.ipynb`.

Jupyter does the same and more; this needs Python alone. `--check` writes nothing, and compares what is printed with
what is kept.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def execute(notebook: dict[str, Any]) -> None:
    """Runs the code cells in order, in one namespace; outputs become what they print. An exception of a cell passes."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    number = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        number += 1
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)
        text = printed.getvalue().splitlines(keepends=True)
        cell["execution_count"] = number
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": text}] if text else []


def main() -> int:
    """Executes; returns 1 where `--check` finds a difference."""
    file = Path(sys.argv[1])
    before = json.loads(file.read_text())
    after = json.loads(file.read_text())
    execute(after)
    if "--check" not in sys.argv:
        file.write_text(json.dumps(after, indent=1, ensure_ascii=False) + "\n")
        return 0
    if before == after:
        return 0
    print(f"{file} prints something else than it keeps: python {sys.argv[0]} {file}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
