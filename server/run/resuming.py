"""What a run that is started again may change, and what it must be told anew.

What is learnt is fixed, the rest (when to stop, how many clients) may differ from one start to the next. Who can
reach the server is never taken over from an earlier start. A new option's default is what was done before there was
one: older runs are resumed with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seedbed.common.errors import ConfigError
from seedbed.common.options import difference, flatten, override
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.directory import RunFile

FIXED = (
    "environment",
    "algorithm",
    "learning",
    "actor_critic",
    "vtrace",
    "ppo",
    "q_learning",
    "asynchronous_q",
    "r2d2",
    "replay",
    "network",
    "optimiser",
)
"""Parts of the options that describe what is learnt."""

EXPOSURE = ("serving.host", "serving.credentials", "monitoring.http_host")
"""Options, or parts of them, that decide who can reach a server."""


def is_exposure(path: str) -> bool:
    """Whether an option, named by its dotted path, decides who can reach a server."""
    return any(path == part or path.startswith(f"{part}.") for part in EXPOSURE)


def unexposed(config: ServerConfig) -> ServerConfig:
    """A run's options without those that belong to one start of it: listening on loopback, with no credentials."""
    return override(config, _exposure_of(ServerConfig()))


def remarks(before: RunFile, now: ServerConfig) -> list[str]:
    """What whoever resumes a run should know: one line each."""
    lines = []
    if before.omitted:
        values = flatten(before.config)
        names = ", ".join(f"{path} ({values[path]})" for path in before.omitted)
        lines.append(f"the run was made by seedbed {before.version}, which had no {names}: they have their defaults")
    if changes := difference(override(now, _exposure_of(before.config)), now):
        lines.append(
            "who may reach the server is said at every start, and not taken over from the one before: "
            + "; ".join(changes)
        )
    return lines


def check_unchanged(before: ServerConfig, now: ServerConfig, path: Path) -> None:
    """Refuses to resume a run as something else.

    Raises:
        ConfigError: lists every fixed option that differs.
    """
    found = [
        line for part in FIXED if part != "algorithm" for line in difference(getattr(before, part), getattr(now, part))
    ]
    if before.algorithm != now.algorithm:
        found.insert(0, f"algorithm: {before.algorithm} in the run, {now.algorithm} now")
    if found:
        raise ConfigError(
            f"expected the options of the run in {path}, got others ({'; '.join(found)}): "
            "leave them out to resume it, or choose another --run-dir"
        )


def _exposure_of(config: ServerConfig) -> dict[str, Any]:
    return {path: value for path, value in flatten(config).items() if is_exposure(path)}
