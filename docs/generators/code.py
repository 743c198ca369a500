"""The page docs/code.md: every source file with the first line of its docstring."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("api", "proto", "common", "env_client", "server")
_HEAD = """# The code, file by file

The first line of each file's docstring; written by `make docs`. [architecture.md](architecture.md) explains how the
folders work together, `tests/test_import_rules.py` who may import whom.
"""


def page() -> str:
    """The whole page."""
    lines = [_HEAD]
    for top in FOLDERS:
        folders = [ROOT / top, *(path for path in sorted((ROOT / top).rglob("*/")) if path.name != "__pycache__")]
        for folder in folders:
            rows = [f"| `{path.name}` | {_title(path)} |" for path in sorted(folder.glob("*.py")) if _is_source(path)]
            if rows:
                lines += [f"## {folder.relative_to(ROOT)}/", "", "| file | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _is_source(path: Path) -> bool:
    return path.name != "__init__.py" and "_pb2" not in path.name


def _title(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    if not docstring:
        raise SystemExit(f"expected a docstring in {path.relative_to(ROOT)}, found none")
    return docstring.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
