"""Requirements at their lower bounds, for a test of what pyproject.toml promises: `python .ci/lowest.py EXTRA...`.

One line each, for pip's --requirement. Bounds of what they need in turn are left to pip.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[(?P<extras>[\w,-]+)\])?\s*(>=|==)\s*(?P<version>[\w.]+)")
_OURS = re.compile(r"seedbed\[([\w,-]+)\]$")


def lowest(extras: Sequence[str]) -> list[str]:
    """`name==version` for the project's own requirements and those of its extras.

    Raises:
        SystemExit: an extra is unknown, or a requirement has no lower bound.
    """
    project = tomllib.loads(PROJECT.read_text())["project"]
    return sorted(
        set(_pinned(project["dependencies"], project))
        | {line for extra in extras for line in _of_extra(extra, project)}
    )


def _of_extra(extra: str, project: dict) -> Iterator[str]:
    optional = project["optional-dependencies"]
    if extra not in optional:
        raise SystemExit(f"expected an extra out of {', '.join(optional)}, got {extra}")
    yield from _pinned(optional[extra], project)


def _pinned(requirements: Sequence[str], project: dict) -> Iterator[str]:
    for requirement in requirements:
        if ours := _OURS.match(requirement):
            for extra in ours.group(1).split(","):
                yield from _of_extra(extra, project)
            continue
        found = _REQUIREMENT.match(requirement)
        if found is None:
            raise SystemExit(f"expected a lower bound, got {requirement!r}")
        yield f"{found['name']}{'' if found['extras'] is None else '[' + found['extras'] + ']'}=={found['version']}"


if __name__ == "__main__":
    print("\n".join(lowest(sys.argv[1:])))
