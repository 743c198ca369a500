"""`seedbed list`: names that --preset, --algorithm, --torso, --core, --track and --env take, and who brings them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seedbed.common.options import parse
from seedbed.common.plugins import Named, names
from seedbed.server.algorithms.registry import ALGORITHMS
from seedbed.server.networks.registry import CORES, TORSOS
from seedbed.server.presets.registry import PRESETS
from seedbed.server.trackers.registry import TRACKERS

_BUILT_IN: Mapping[str, Mapping[str, str]] = {
    "algorithms": ALGORITHMS,
    "torsos": TORSOS,
    "cores": CORES,
    "trackers": TRACKERS,
}


@dataclass(frozen=True, slots=True)
class ListConfig:
    """list"""


def main(argv: Sequence[str]) -> int:
    """Prints them; nothing is imported for it."""
    parse(ListConfig(), argv, prog="seedbed list", description="Names that options take, and who brings them.")
    print(describe())
    return 0


def describe() -> str:
    """All of them, for people."""
    lines = ["presets", *(f"  {name:<20}{task['environment.env']}" for name, (task, _) in PRESETS.items())]
    for group, built_in in _BUILT_IN.items():
        lines += ["", group, *map(_line, names(group, built_in))]
    lines += ["", "environments", *map(_line, names("environments", {}))]
    lines += ["  ALE/*, seedbed/*, every id registered in Gymnasium, and MODULE:NAME of your own"]
    return "\n".join(lines)


def _line(one: Named) -> str:
    brought = "" if one.distribution is None else f"{one.target}, of {one.distribution}"
    hidden = "; hidden by seedbed's own" if one.hidden else ""
    return f"  {one.name:<20}{brought}{hidden}".rstrip()
