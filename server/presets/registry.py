"""Presets by name: settings that work for a task, in a file each. Explicit options win over them.

`TASK` holds for every algorithm, and says which is taken unless one is named; `ALGORITHMS` has what was found to work
for one of them on this task, over `TASK`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from seedbed.common.errors import UsageError
from seedbed.server.presets import cartpole, catch, detour, memory, pendulum, pong

Values = Mapping[str, Any]
"""Dotted option -> value."""

PRESETS: Mapping[str, tuple[Values, Mapping[str, Values]]] = {
    "pong": (pong.TASK, pong.ALGORITHMS),
    "cartpole": (cartpole.TASK, cartpole.ALGORITHMS),
    "catch": (catch.TASK, catch.ALGORITHMS),
    "memory": (memory.TASK, memory.ALGORITHMS),
    "pendulum": (pendulum.TASK, pendulum.ALGORITHMS),
    "detour": (detour.TASK, detour.ALGORITHMS),
}
"""Name -> values of the task, and those of each algorithm."""

SUMMARIES: Mapping[str, str] = {
    "pong": "pixels, half an hour on two cores",
    "cartpole": "four numbers, a minute",
    "catch": "a ball to catch, seconds",
    "memory": "to be solved with memory alone, seconds",
    "pendulum": "a torque to choose, minutes",
    "detour": "reward that costs variance (--risk-variance), minutes",
}
"""Name -> what it is, in a few words."""

OF_ITS_OWN = (
    "run.target_return",
    "learning.reward_clipping",
    "network.torso",
    "network.frame_stack",
    "network.precision",
    "network.normalise_observations",
)
"""Options that a preset sets for the environment of the task alone; another has the rules of its own."""


def task_values(preset: str | None, env: str | None = None) -> Values:
    """What a preset says whatever the algorithm; nothing without a preset.

    Args:
        preset: its name.
        env: the environment that was given beside it, if any.

    Raises:
        UsageError: there is no such preset.
    """
    if preset is None:
        return {}
    if preset not in PRESETS:
        near = difflib.get_close_matches(preset, PRESETS, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"expected --preset to be one of {', '.join(PRESETS)}, got {preset!r}{hint}")
    return _for_environment(PRESETS[preset][0], preset, env)


def preset_values(preset: str | None, algorithm: str, env: str | None = None) -> Values:
    """All that a preset changes for an algorithm; nothing without a preset.

    Args:
        preset, env: as above.
        algorithm: its name.

    Raises:
        UsageError: there is no such preset.
    """
    if preset is None:
        return {}
    task = task_values(preset, env)
    own = _for_environment(PRESETS[preset][1].get(algorithm, {}), preset, env)
    return {**task, **own, "algorithm": algorithm}


def fits(preset: str | None, env: str | None) -> bool:
    """Whether a run has the environment of its preset: a target, and a folder named after the preset."""
    return preset is not None and env in (None, PRESETS[preset][0].get("environment.env"))


def _for_environment(values: Values, preset: str, env: str | None) -> Values:
    """Without what holds for the preset's own environment alone, where that is not played."""
    return values if fits(preset, env) else {name: value for name, value in values.items() if name not in OF_ITS_OWN}
