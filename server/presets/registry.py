"""Presets by name: settings that work for a task, in a file each. Explicit options win over them.

`TASK` holds for every algorithm, `ALGORITHMS` what was found to work for one of them on this task, over `TASK`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.common.errors import UsageError
from seedbed.server.presets import cartpole, catch, memory, pong

Values = Mapping[str, Any]
"""Dotted option -> value."""

PRESETS: Mapping[str, tuple[Values, Mapping[str, Values]]] = {
    "pong": (pong.TASK, pong.ALGORITHMS),
    "cartpole": (cartpole.TASK, cartpole.ALGORITHMS),
    "catch": (catch.TASK, catch.ALGORITHMS),
    "memory": (memory.TASK, memory.ALGORITHMS),
}
"""Name -> values of the task, and those of each algorithm."""


def task_values(preset: str | None) -> Values:
    """What a preset says whatever the algorithm; nothing without a preset.

    Raises:
        UsageError: there is no such preset.
    """
    if preset is None:
        return {}
    if preset not in PRESETS:
        raise UsageError(f"expected --preset to be one of {', '.join(PRESETS)}, got {preset!r}")
    return PRESETS[preset][0]


def preset_values(preset: str | None, algorithm: str) -> Values:
    """All that a preset changes for an algorithm; nothing without a preset.

    Raises:
        UsageError: there is no such preset.
    """
    return {} if preset is None else {**task_values(preset), **PRESETS[preset][1].get(algorithm, {})}
