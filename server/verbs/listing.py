"""`seedbed list`: names that --preset, --suite, --algorithm, --torso, --core, --track and --env take, and whose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seedbed.common.options import parse
from seedbed.common.plugins import Named, names
from seedbed.server.algorithms import registry as algorithms
from seedbed.server.networks import registry as networks
from seedbed.server.presets import registry as presets
from seedbed.server.presets.suites import SUITES
from seedbed.server.trackers import registry as trackers

BUILT_IN: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "algorithms": (algorithms.ALGORITHMS, algorithms.SUMMARIES),
    "torsos": (networks.TORSOS, networks.TORSO_SUMMARIES),
    "cores": (networks.CORES, networks.CORE_SUMMARIES),
    "trackers": (trackers.TRACKERS, trackers.SUMMARIES),
}
"""Group -> names, and what each is in a few words."""


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
    lines = ["presets"]
    for name, (task, _) in presets.PRESETS.items():
        lines.append(f"  {name:<20}{task['environment.env']}: {presets.SUMMARIES[name]}")
    lines += ["", "suites of several tasks"]
    lines += [
        f"  {name:<20}{len(tasks)} tasks, {tasks[0]['env']} to {tasks[-1]['env']}" for name, tasks in SUITES.items()
    ]
    for group, (built_in, summaries) in BUILT_IN.items():
        lines += ["", group, *(_line(one, summaries) for one in names(group, built_in))]
    lines += ["", "environments", *(_line(one, {}) for one in names("environments", {}))]
    lines += ["  ALE/*, seedbed/*, every id registered in Gymnasium, and MODULE:NAME of your own"]
    return "\n".join(lines)


def _line(one: Named, summaries: Mapping[str, str]) -> str:
    brought = summaries.get(one.name, "") if one.distribution is None else f"{one.target}, of {one.distribution}"
    hidden = "; hidden by seedbed's own" if one.hidden else ""
    return f"  {one.name:<20}{brought}{hidden}".rstrip()
