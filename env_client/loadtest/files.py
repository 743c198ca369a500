"""What a program reads: every figure as JSON, the table as CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seedbed.env_client.loadtest.report import LoadPoint


def to_json(points: Sequence[LoadPoint]) -> list[dict[str, Any]]:
    """One object for each load: `Measurement`, flat, and the `verdict`."""
    return [{**_finite(point.measurement.to_json()), "verdict": asdict(point.verdict)} for point in points]


def write_json(path: Path, points: Sequence[LoadPoint]) -> None:
    """Writes `to_json`'s list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_json(points), indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, points: Sequence[LoadPoint]) -> None:
    """Writes one line for each load, without processes and batch sizes; names of nested figures have dots."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [_flat(point) for point in to_json(points)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _flat(point: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in point.items():
        if name in ("processes", "batch_sizes"):
            continue
        if name == "errors":
            flat[name] = sum(value.values())
        elif isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _finite(value: Any) -> Any:
    """JSON knows no NaN: a latency that was never measured is null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
