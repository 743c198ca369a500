"""Plug-ins by name: built in, brought by an installed distribution, or MODULE:ATTR, and who may have what imported.

A distribution brings its own under entry points of the groups `seedbed.algorithms`, `.torsos`, `.cores`,
`.environments` and `.trackers`. A built-in of the same name wins. A MODULE:ATTR is imported only if it was typed at
this start: names in files are data.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from seedbed.common.errors import UsageError

GROUPS: Mapping[str, str] = {
    "algorithms": "--algorithm",
    "torsos": "--torso",
    "cores": "--core",
    "environments": "--env",
    "trackers": "--track",
}
"""Group -> the option that takes its names."""

_SAFE_PATH = "PYTHONSAFEPATH"
_log = logging.getLogger(__name__)
_imported: dict[tuple[str, str], Any] = {}
"""Group and MODULE:ATTR -> its object: what one caller had imported is found again by those that know no trust."""
_start_directories: set[str] = set()
"""What was put on sys.path here."""


def start_directory(import_from: Path | None = None) -> Path:
    """Where a MODULE:ATTR is looked for last: the working directory unless --import-from names another.

    Absolute, since processes that get it may work elsewhere.
    """
    return (import_from or Path.cwd()).absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Which names may have a module imported; decided where a command line is read, and never saved.

    Attributes:
        typed: names that were typed at this start, and not read from a file.
        allow_import: any name may; --allow-import was said.
        installed: entry points may as well: everywhere but for a name that came over the wire.
        start_directory: absolute; goes last on sys.path when a MODULE:ATTR is imported.
    """

    typed: frozenset[str] = frozenset()
    allow_import: bool = False
    installed: bool = True
    start_directory: Path | None = None

    def covers(self, name: str) -> bool:
        """Whether a MODULE:ATTR may be imported."""
        return self.allow_import or name in self.typed

    def of(self, name: str) -> Trust:
        """The trust to hand to another process with one name."""
        return replace(self, typed=frozenset(), allow_import=self.covers(name))

    def to_argv(self, name: str) -> list[str]:
        """Options for a child process whose command line has the name, though nobody typed it there."""
        if not is_module(name) or not self.covers(name):
            return []
        return [
            "--allow-import",
            *([] if self.start_directory is None else [f"--import-from={self.start_directory}"]),
        ]


NOTHING_TYPED = Trust()
"""Trust where a name comes from a file: built-in and installed ones."""

WIRE = Trust(installed=False)
"""Trust in what the other side of a connection says: nothing is imported for it."""


@dataclass(frozen=True, slots=True)
class Named:
    """A name that can be chosen.

    Attributes:
        target: MODULE:ATTR.
        distribution: name and version of what brings it; None: built in.
        hidden: a built-in has the same name and wins.
    """

    name: str
    target: str
    distribution: str | None = None
    hidden: bool = False


def is_module(name: str) -> bool:
    """Whether a name is a MODULE:ATTR."""
    return ":" in name


def find(group: str, name: str, built_in: Mapping[str, str], trust: Trust = NOTHING_TYPED) -> Any:
    """The object of a name. A MODULE:ATTR that was found once in this process needs no more trust.

    Args:
        group: one of `GROUPS`.
        name: a built-in one, that of an entry point, or MODULE:ATTR.
        built_in: name -> MODULE:ATTR.
        trust: which modules may be imported.

    Raises:
        UsageError: there is none of that name, it may not be imported, or importing it failed.
    """
    if name in built_in:
        _warn_of_hidden(group, name)
        return _attribute(importlib.import_module(built_in[name].partition(":")[0]), built_in[name], GROUPS[group])
    if is_module(name):
        if (group, name) not in _imported:
            _imported[group, name] = _attribute(import_named(GROUPS[group], name, trust), name, GROUPS[group])
        return _imported[group, name]
    brought = installed(group) if trust.installed else {}
    if name not in brought:
        raise UsageError(unknown(group, name, built_in))
    return _attribute(_import(GROUPS[group], brought[name].target), brought[name].target, GROUPS[group])


def import_named(option: str, name: str, trust: Trust) -> ModuleType:
    """The module of a MODULE:ATTR; the start directory stays on the path, for what it imports later.

    Raises:
        UsageError: it may not be imported, another module hides it, or importing it failed.
    """
    check_trusted(option, name, trust)
    if trust.start_directory is not None:
        if str(trust.start_directory) not in sys.path:
            sys.path.append(str(trust.start_directory))
            _start_directories.add(str(trust.start_directory))
        _expect_unhidden(option, name.partition(":")[0], trust.start_directory)
    return _import(option, name)


def check_trusted(option: str, name: str | None, trust: Trust) -> None:
    """Refuses a MODULE:ATTR that nobody typed; every other name passes.

    Raises:
        UsageError: says how to allow it.
    """
    if name is not None and is_module(name) and not trust.covers(name):
        raise UsageError(
            f"{option} {name} would import a module that a file names and nobody typed: if that is meant, say "
            "--allow-import, or the name again where the command has that option"
        )


@contextlib.contextmanager
def without_start_directories() -> Iterator[None]:
    """For processes that are spawned within: they inherit sys.path as it was before modules of users were imported.

    Until they have it they would look into the working directory first, where a file may be called like a module of
    Python's.
    """
    path, safe = list(sys.path), os.environ.get(_SAFE_PATH)
    sys.path[:] = [folder for folder in path if folder not in _start_directories]
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        sys.path[:] = path
        if safe is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = safe


def names(group: str, built_in: Mapping[str, str]) -> list[Named]:
    """All names of a group: built-in ones first, then those of installed distributions. Imports none of them."""
    found = [Named(name, target) for name, target in built_in.items()]
    return found + [replace(one, hidden=name in built_in) for name, one in sorted(installed(group).items())]


def installed(group: str) -> Mapping[str, Named]:
    """Entry points of a group by name, not imported.

    Raises:
        UsageError: two distributions bring the same name.
    """
    return _installed(group, tuple(sys.path))


@functools.cache
def _installed(group: str, path: tuple[str, ...]) -> Mapping[str, Named]:
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    found: dict[str, Named] = {}
    for point in entry_points(group=f"seedbed.{group}"):
        assert point.dist is not None
        one = Named(point.name, point.value.replace(" ", ""), f"{point.dist.name} {point.dist.version}")
        if (other := found.setdefault(point.name, one)) != one:
            raise UsageError(
                f"expected one installed {GROUPS[group]} {point.name}, got those of {other.distribution} and "
                f"{one.distribution}: remove one, or say {GROUPS[group]} MODULE:ATTR"
            )
    return found


def unknown(group: str, name: str, built_in: Mapping[str, str]) -> str:
    """What to say about a name that nobody has."""
    known = [one.name for one in names(group, built_in) if not one.hidden]
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"expected {GROUPS[group]} to be one of {', '.join(known)}, or MODULE:ATTR, got {name!r}{hint}"


@functools.cache
def _warn_of_hidden(group: str, name: str) -> None:
    """Says once that a distribution's plug-in has lost its name to a built-in."""
    if (hidden := installed(group).get(name)) is not None:
        _log.warning(
            "%s %s is seedbed's own; the one of %s is %s %s",
            GROUPS[group],
            name,
            hidden.distribution,
            GROUPS[group],
            hidden.target,
        )


def _expect_unhidden(option: str, module: str, start_directory: Path) -> None:
    """Refuses a module of the start directory that another one hides, which comes earlier on the path.

    Raises:
        UsageError: names both.
    """
    top = module.partition(".")[0]
    candidates = [f"{top}.py", f"{top}/__init__.py", f"{module.replace('.', '/')}.py"]
    ours = next((start_directory / name for name in candidates if (start_directory / name).exists()), None)
    if ours is None:
        return
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # found and broken, or a module without a spec: importing it tells
        return
    if spec is None:
        return
    places = [spec.origin or "built in", *(spec.submodule_search_locations or ())]
    if not any(Path(place).resolve() in (ours.resolve(), ours.resolve().parent) for place in places):
        raise UsageError(
            f"{option} {module}:...: expected {ours}, but {places[0]} has the same name and is found first: rename "
            "yours"
        )


def _import(option: str, name: str) -> ModuleType:
    """Imports the module of a MODULE:ATTR, and says in one line why that failed."""
    module = name.partition(":")[0]
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a script without a main guard leaves
        _log.debug("importing %s failed", module, exc_info=True)
        told = f"importing {module} failed{_place(error)}: {_said(error)}{_remedy(name, error)}"
        raise UsageError(f"{option} {name}: {told}") from error


def _remedy(name: str, error: BaseException) -> str:
    """What to do where a file was named in a module's place, or where no such module lies."""
    module, _, attribute = name.partition(":")
    if module.endswith(".py") or os.sep in module:
        return f"; expected a module as Python imports it, {Path(module).stem}:{attribute}, in the folder of its file"
    if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0] and _start_directories:
        return f"; it is neither installed nor in {', '.join(sorted(_start_directories))}: go where it lies"
    return ""


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _place(error: BaseException) -> str:
    """Where in somebody's file it was raised; empty where none of theirs was run."""
    if isinstance(error, SyntaxError):
        return ""  # its text says it
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen ")]
    mine = [frame for frame in frames if frame.filename not in (__file__, importlib.__file__)]
    return f" in {mine[-1].filename}, line {mine[-1].lineno}" if mine else ""


def _attribute(module: ModuleType, name: str, option: str) -> Any:
    """The attribute that a MODULE:ATTR names.

    Raises:
        UsageError: the module has none of that name.
    """
    found: Any = module
    for part in name.partition(":")[2].split("."):
        if not hasattr(found, part):
            place = getattr(module, "__file__", None) or module.__name__
            raise UsageError(f"{option} {name}: expected {part!r} in {place}, which has none")
        found = getattr(found, part)
    return found
