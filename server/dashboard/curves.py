"""Learning curves out of a run's metrics.jsonl, read as it grows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from seedbed.server.shared.reading import open_regular

MAX_POINTS = 500
_MAX_READ_BYTES = 64 << 20  # at a time; the file may be anybody's
_MAX_KEPT = 20_000  # lines; at one in ten seconds two days, then every second one is dropped


class Curves:
    """The columns of a file of metrics."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet; there need not be a file."""
        self._path = path
        self._offset = 0
        self._lines: list[dict[str, Any]] = []

    @property
    def newest(self) -> dict[str, Any]:
        """The newest line; empty before the first."""
        return self._lines[-1] if self._lines else {}

    def read(self) -> None:
        """Takes in what has been written since the last call."""
        try:
            size = self._path.stat().st_size
            if size < self._offset:  # the run was begun anew from an earlier point
                self._offset, self._lines = 0, []
            if size == self._offset:
                return
            with open(open_regular(self._path, os.O_RDONLY), "rb") as stream:
                stream.seek(self._offset)
                data = stream.read(_MAX_READ_BYTES)
        except OSError:
            return
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        for text in data[:whole].splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and _is_number(line.get("agent_steps")):
                self._lines.append(line)
        while len(self._lines) > _MAX_KEPT:
            del self._lines[-2::-2]  # the newest stays

    def since(self, step: int) -> dict[str, Any]:
        """Columns of the lines after an agent step, thinned evenly to 500; the newest is always among them."""
        lines = [line for line in self._lines if line["agent_steps"] > step]
        if (count := len(lines)) > MAX_POINTS:
            lines = [lines[(i + 1) * count // MAX_POINTS - 1] for i in range(MAX_POINTS)]
        names = dict.fromkeys(name for line in lines for name, value in line.items() if _is_number(value))
        return {
            "columns": {name: [line.get(name) for line in lines] for name in names},
            "newest_step": self.newest.get("agent_steps"),
        }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
