"""What the numbers of a policy stand for: which action array they belong to, and what they are."""

from __future__ import annotations

from typing import Any, Literal

from seedbed.common.array_spec import ArraySpec
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.dashboard.facts import Shows
from seedbed.server.shared.insight import MAX_NUMBERS

Kind = Literal["probabilities", "q_values", "normal", "mixed"]


def numbers_of(spec: EnvironmentSpec, shows: Shows) -> tuple[Kind, list[dict[str, Any]]]:
    """The kind of all numbers, and the parts they are made of, in order.

    A part is {"name", "kind", "from", "sizes"}: probabilities of the values of each discrete element in turn, one size
    for each; of a box ("normal") as many means and then as many deviations. Parts beyond the 64th number are left out.
    """
    if shows == "q_values":
        size = min(MAX_NUMBERS, spec.num_actions)
        return "q_values", [{"name": spec.actions[0].name, "kind": "q_values", "from": 0, "sizes": [size]}]
    parts: list[dict[str, Any]] = []
    start = 0
    for action in spec.actions:
        sizes = _sizes(action)
        if start < MAX_NUMBERS:
            kind = "normal" if action.kind == "box" else "probabilities"
            parts.append({"name": action.name, "kind": kind, "from": start, "sizes": _cut(sizes, MAX_NUMBERS - start)})
        start += sum(sizes)
    normal = [part["kind"] == "normal" for part in parts]
    return ("normal" if all(normal) else "mixed" if any(normal) else "probabilities"), parts


def _sizes(action: ArraySpec) -> list[int]:
    return [action.num_elements] * 2 if action.kind == "box" else list(action.num_values)


def _cut(sizes: list[int], room: int) -> list[int]:
    kept = []
    for size in sizes:
        if room <= 0:
            break
        kept.append(min(size, room))
        room -= size
    return kept
