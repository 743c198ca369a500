"""Leases, time-outs and back-off follow the monotonic clock: a wall clock that jumps by a day costs nobody anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("api", "common", "env_client", "server")

WALL = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "clock_gettime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
ALLOWED = {"common/certificates.py", "server/trackers/mlflow.py"}
"""Certificates are valid by the calendar, and MLflow wants to be told when a number was made. (Lines of the log have a
wall time too; `logging` adds it.)
"""


def wall_times(source: str) -> Iterator[str]:
    """Everything in a file that asks for the wall time, or imports what does."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if name in WALL.get(module, ()):
                yield f"{module}.{name}, line {node.lineno}"
            case ast.ImportFrom(module="time", names=names):
                yield from (f"time.{one.name}, line {node.lineno}" for one in names if one.name in WALL["time"])


def test_nobody_asks_for_the_wall_time() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): list(wall_times(path.read_text())) for path in files}
    assert {file: uses for file, uses in found.items() if uses}.keys() == ALLOWED, found


def test_it_would_be_found() -> None:
    source = "import time\nfrom time import time\nx = time.time() + time.monotonic()\ny = datetime.now()\n"
    assert len(list(wall_times(source))) == 3
