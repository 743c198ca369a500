"""Options of a run that is started again: what may change, and what must be said anew.

Options are fixed (`option(fixed=True)`) where shapes, the contract or the meaning of stored data depend on them; the
others may differ from one start to the next. Who can reach the server is never taken over from an earlier start. A new
option's default is what was done before there was one: older runs are resumed with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seedbed.common.errors import ConfigError
from seedbed.common.options import difference, flatten, override
from seedbed.server.options.config import ServerConfig

EXPOSURE = (
    "serving.host",
    "serving.credentials",
    "monitoring.http_host",
    "monitoring.dashboard_host",
    "replicas.insecure_cluster_network",
)
"""Options, or parts of them, that decide who can reach a server."""


def is_exposure(path: str) -> bool:
    """Whether an option, named by its dotted path, decides who can reach a server."""
    return any(path == part or path.startswith(f"{part}.") for part in EXPOSURE)


def unexposed(config: ServerConfig) -> ServerConfig:
    """A run's options without those that belong to one start of it: listening on loopback, with no credentials."""
    return override(config, _exposure_of(ServerConfig()))


def remarks(before: ServerConfig, now: ServerConfig, omitted: Sequence[str], version: str) -> list[str]:
    """What is worth knowing about a run that goes on: one line each.

    Args:
        before, now: its options.
        omitted: paths of those that the seedbed which made it did not have.
        version: of that seedbed.
    """
    lines = []
    if omitted:
        values = flatten(before)
        names = ", ".join(f"{path} ({values[path]})" for path in omitted)
        lines.append(f"the run was made by seedbed {version}, which had no {names}: they have their defaults")
    if changed := difference(override(before, _exposure_of(now)), now):
        lines.append("changed since the last start: " + "; ".join(changed))
    if changes := difference(override(now, _exposure_of(before)), now):
        lines.append(
            "who may reach the server is said at every start, and not taken over from the one before: "
            + "; ".join(changes)
        )
    return lines


def check_unchanged(before: ServerConfig, now: ServerConfig, name: str) -> None:
    """Refuses to resume a run as something else.

    Raises:
        ConfigError: lists every fixed option that differs.
    """
    if found := difference(before, now, fixed=True):
        raise ConfigError(
            f"expected the options of the run in {name}, got others ({'; '.join(found)}): "
            "leave them out to resume it, or choose another --run-dir"
        )


def _exposure_of(config: ServerConfig) -> dict[str, Any]:
    return {path: value for path, value in flatten(config).items() if is_exposure(path)}
