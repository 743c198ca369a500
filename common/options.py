"""Options from frozen dataclasses: the one source of every default and help text, for argparse and for JSON.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class OptimiserConfig:
        "optimiser"                                       # titles the group in --help
        learning_rate: float = option(6e-4, "at the start")            # --learning-rate

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        "main"
        seed: int = option(0, "seed of the run")                       # --seed
        optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)

Dataclasses nest, flags do not: each name is unique in the whole tree. In code an option is named by its dotted path,
"optimiser.learning_rate". Types: str, int, float, bool (--x, --no-x), Path, tuple[int, ...] (--x 16,32), Literal of
strings, and each of them or None (--x none).

Wrong options raise UsageError, wrong files ConfigError; argparse's own exit with a usage dump never happens.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from seedbed.common.errors import ConfigError, UsageError
from seedbed.common.option_fields import Option, option, option_groups, options_of

__all__ = [
    "Layer",
    "OptionParser",
    "add_options",
    "difference",
    "explicit",
    "flatten",
    "from_json",
    "omitted",
    "option",
    "override",
    "parse",
    "to_json",
]

T = TypeVar("T")


class OptionParser(argparse.ArgumentParser):
    """An argparse parser that raises UsageError in one line, and knows no abbreviations."""

    def __init__(self, prog: str, description: str = "", operands: str = "") -> None:
        """Makes an empty one; `operands` shows in the usage line what `add_argument` adds beside options."""
        usage = f"{prog} [OPTION ...] {operands}".rstrip()
        super().__init__(prog=prog, usage=usage, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Called by argparse."""
        raise UsageError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parses all of `argv`.

        Raises:
            UsageError: an option is unknown, missing or wrong.
        """
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            name = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(name, self._option_string_actions, n=1)
            self.error(f"unknown option {name!r}" + (f", did you mean {near[0]}?" if near else ""))
        return namespace


def add_options(parser: argparse.ArgumentParser, cls: type[Any], defaults: Any = None) -> None:
    """Adds a flag for each option of a dataclass and of those nested in it, each class a group of its own.

    Args:
        parser: gets the flags. Those not given leave nothing in the namespace: see `explicit`.
        cls: the dataclass; the first line of its docstring titles the group.
        defaults: an instance whose values --help shows as defaults; that of `cls()` if None.
    """
    current = flatten(cls() if defaults is None else defaults)
    flags = [leaf.flag for leaf in options_of(cls)]
    assert len(flags) == len(set(flags)), f"{cls.__name__}: two options have the same flag, out of {sorted(flags)}"
    for title, leaves in option_groups(cls):
        group = parser.add_argument_group(title)
        for leaf in leaves:
            _add_option(group, leaf, current[leaf.path])


def explicit(namespace: argparse.Namespace, cls: type[Any]) -> dict[str, Any]:
    """The options of `cls` that were really given on the command line: dotted path -> value."""
    given = vars(namespace)
    return {leaf.path: given[leaf.path] for leaf in options_of(cls) if leaf.path in given}


@dataclass(frozen=True, slots=True)
class Layer:
    """A flag that brings many values at once, such as --preset NAME or --config FILE.

    Attributes:
        flag, metavar, help: as on the command line.
        read: the flag's text -> dotted path -> value; raises a SeedbedError if it cannot.
    """

    flag: str
    metavar: str
    help: str
    read: Callable[[str], Mapping[str, Any]]


def parse(
    cls: type[T],
    argv: Sequence[str],
    *,
    prog: str,
    description: str = "",
    defaults: T | None = None,
    layers: Sequence[Layer] = (),
    implied: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {},
) -> T:
    """Reads a command line.

    Explicit flags win over layers, later layers over earlier ones, all of them over what they imply for the options
    they leave out, and that over defaults.

    Args:
        cls: a frozen dataclass of options.
        argv: without the program's name.
        prog, description: for --help.
        defaults: `cls()` if None.
        layers: what else may bring values.
        implied: from the values brought so far to more of them.

    Raises:
        UsageError: an option is unknown or wrong.
        SystemExit: 0, after --help.
    """
    start = cls() if defaults is None else defaults
    parser = OptionParser(prog, description)
    for layer in layers:
        parser.add_argument(layer.flag, metavar=layer.metavar, help=layer.help, dest=layer.flag)
    add_options(parser, cls, start)
    namespace = parser.parse(argv)
    values: dict[str, Any] = {}
    for layer in layers:
        text = getattr(namespace, layer.flag)
        if text is not None:
            values |= layer.read(text)
    values |= explicit(namespace, cls)
    return override(start, {**implied(values), **values})


def flatten(instance: Any) -> dict[str, Any]:
    """All options of an instance: dotted path -> value."""
    return {leaf.path: _get(instance, leaf.path) for leaf in options_of(type(instance))}


def override(instance: T, values: Mapping[str, Any]) -> T:
    """A copy with other values, all set at once, so that a class which checks itself sees no half of them.

    Raises:
        ValueError: a dotted path that is no option.
    """
    unknown = set(values) - {leaf.path for leaf in options_of(type(instance))}
    if unknown:
        raise ValueError(f"expected options of {type(instance).__name__}, got {', '.join(sorted(unknown))}")
    changes: dict[str, Any] = {path: value for path, value in values.items() if "." not in path}
    for name in {path.partition(".")[0] for path in values if "." in path}:
        inner = {path.partition(".")[2]: value for path, value in values.items() if path.startswith(f"{name}.")}
        changes[name] = override(getattr(instance, name), inner)
    changed: T = dataclasses.replace(typing.cast(Any, instance), **changes)
    return changed


def to_json(instance: Any) -> dict[str, Any]:
    """Nested dictionaries of what JSON can hold."""
    result: dict[str, Any] = {}
    for path, value in flatten(instance).items():
        *parents, name = path.split(".")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if isinstance(value, Path) or (isinstance(value, float) and math.isinf(value)):
            value = str(value)
        inner[name] = list(value) if isinstance(value, tuple) else value
    return result


def from_json(cls: type[T], data: Mapping[str, Any]) -> T:
    """The inverse of `to_json`. Options that are missing have their defaults: the file may be older than they are.

    Raises:
        ConfigError: names the option that is unknown, or of the wrong type or value.
    """
    values = dict(_flatten_json(data, cls, ""))
    leaves = {leaf.path: leaf for leaf in options_of(cls)}
    if unknown := sorted(set(values) - set(leaves)):
        raise ConfigError(f"expected options of {cls.__name__}, got {', '.join(unknown)}, which this version has not")
    read = {path: leaves[path].from_json(value) for path, value in values.items()}
    try:
        return override(cls(), read)
    except UsageError as error:
        raise ConfigError(str(error)) from error


def omitted(cls: type[Any], data: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted paths of the options that `from_json` leaves at their defaults."""
    given = dict(_flatten_json(data, cls, ""))
    return tuple(leaf.path for leaf in options_of(cls) if leaf.path not in given)


def difference(run: T, now: T) -> list[str]:
    """What differs between a run's options and the present ones, e.g. "learning_rate: 0.001 in the run, 0.0003 now"."""
    before, after = flatten(run), flatten(now)
    return [
        f"{path.rpartition('.')[2]}: {before[path]} in the run, {after[path]} now"
        for path in before
        if before[path] != after[path]
    ]


def _add_option(group: argparse._ArgumentGroup, leaf: Option, default: Any) -> None:
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    text = leaf.help if default is None else f"{leaf.help} (default: {shown})"
    text = text.replace("%", "%%")
    if leaf.kind is bool:
        group.add_argument(
            leaf.flag, dest=leaf.path, default=argparse.SUPPRESS, action=argparse.BooleanOptionalAction, help=text
        )
        return
    group.add_argument(
        leaf.flag, dest=leaf.path, default=argparse.SUPPRESS, type=leaf.parse, metavar=leaf.metavar, help=text
    )


def _get(instance: Any, path: str) -> Any:
    for name in path.split("."):
        instance = getattr(instance, name)
    return instance


def _flatten_json(data: Any, cls: type[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted path -> raw value, following the nesting of `cls`."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{prefix.rstrip('.') or cls.__name__}: expected an object, got {data!r:.100}")
    hints = typing.get_type_hints(cls)
    for name, value in data.items():
        if dataclasses.is_dataclass(hints.get(name)):
            yield from _flatten_json(value, hints[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
