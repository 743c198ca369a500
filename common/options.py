"""Options from frozen dataclasses: the one source of every default and help text, for argparse and for JSON.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class OptimiserConfig:
        "optimiser"                                       # titles the group in --help
        learning_rate: float = option(6e-4, "learning rate at the start")  # --learning-rate

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        "main"
        seed: int = option(0, "seed of the run")                       # --seed
        optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)

Dataclasses nest, flags do not: each name is unique in the whole tree. In code an option is named by its dotted path,
"optimiser.learning_rate". Types: str, int, float, bool (--x, --no-x), Path, Literal of strings, and each of them or
None (--x none). A tree is an instance, whose values are its defaults: a part of it may be of one class in one tree and
of another in the next.

Wrong options raise UsageError, wrong files ConfigError; argparse's own exit with a usage dump never happens.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import math
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from seedbed.common.errors import ConfigError, UsageError
from seedbed.common.nearest_option import nearest_option
from seedbed.common.option_fields import Option, option, option_groups, options_of

__all__ = [
    "OptionParser",
    "add_group",
    "add_options",
    "captured_help",
    "difference",
    "explicit",
    "flatten",
    "from_json",
    "omitted",
    "option",
    "options_of",
    "override",
    "parse",
    "read_json",
    "to_argv",
    "to_json",
]

T = TypeVar("T")


_capturing: list[OptionParser] | None = None


@contextlib.contextmanager
def captured_help() -> Iterator[list[OptionParser]]:
    """Parsers that are asked for their help within the block, which is not shown: for programs that want them."""
    global _capturing
    parsers: list[OptionParser] = []
    _capturing = parsers
    try:
        yield parsers
    finally:
        _capturing = None


class OptionParser(argparse.ArgumentParser):
    """An argparse parser that raises UsageError in one line, and knows no abbreviations."""

    def __init__(self, prog: str, description: str = "", operands: str = "") -> None:
        """Makes an empty one; `operands` shows in the usage line what `add_argument` adds beside options."""
        usage = f"{prog} [OPTION ...] {operands}".rstrip()
        super().__init__(prog=prog, usage=usage, description=description, allow_abbrev=False)

    def print_help(self, file: Any = None) -> None:
        """Called by argparse for --help; shows nothing where a program asks for the parser: see `captured_help`."""
        if _capturing is None:
            super().print_help(file)
        else:
            _capturing.append(self)

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
            self.refuse(unknown[0])
        return namespace

    def refuse(self, word: str) -> NoReturn:
        """Says that an option is unknown, and which one may be meant.

        Raises:
            UsageError: always.
        """
        name = word.partition("=")[0]
        if not name.startswith("-"):
            self.error(f"unexpected argument {word!r}")
        flags = {
            flag: str(action.help or "")
            for flag, action in self._option_string_actions.items()
            if flag.startswith("--") and action.help != argparse.SUPPRESS
        }
        near = nearest_option(name, flags)
        self.error(f"unknown option {name!r}" + (f", did you mean {near}?" if near else ""))


def add_options(parser: argparse.ArgumentParser, tree: Any, *, but: Collection[str] = ()) -> None:
    """Adds a flag for each option of a tree, each class in it a group of its own.

    Args:
        parser: gets the flags. Those not given leave nothing in the namespace: see `explicit`.
        tree: the first line of a class's docstring titles its group; --help shows its values as defaults.
        but: dotted paths of options that `parser` has already.

    Raises:
        UsageError: two options have the same flag, one of them a plug-in's.
    """
    flags = [leaf.flag for leaf in options_of(tree)]
    if twice := sorted({flag for flag in flags if flags.count(flag) > 1}):
        raise UsageError(f"expected options of different names, got two of {', '.join(twice)}")
    for title, leaves in option_groups(tree):
        if kept := [leaf for leaf in leaves if leaf.path not in but]:
            add_group(parser, title, kept, tree)


def add_group(
    parser: argparse.ArgumentParser, title: str, leaves: Sequence[Option], tree: Any
) -> argparse._ArgumentGroup:
    """Adds some options of a tree as a group, and returns that."""
    group = parser.add_argument_group(title)
    for leaf in leaves:
        _add_option(group, leaf, _get(tree, leaf.path))
    return group


def explicit(namespace: argparse.Namespace, tree: Any) -> dict[str, Any]:
    """The options of `tree` that were really given on the command line: dotted path -> value."""
    given = vars(namespace)
    return {leaf.path: given[leaf.path] for leaf in options_of(tree) if leaf.path in given}


def parse(defaults: T, argv: Sequence[str], *, prog: str, description: str = "") -> T:
    """Reads a command line.

    Args:
        defaults: a tree of options; what is not given stays.
        argv: without the program's name.
        prog, description: for --help.

    Raises:
        UsageError: an option is unknown or wrong.
        SystemExit: 0, after --help.
    """
    parser = OptionParser(prog, description)
    add_options(parser, defaults)
    return override(defaults, explicit(parser.parse(argv), defaults))


def to_argv(tree: Any) -> list[str]:
    """The command line that gives all options the values that they have in a tree; None is said by leaving out."""
    values = flatten(tree)
    return [
        word for leaf in options_of(tree) if values[leaf.path] is not None for word in leaf.to_argv(values[leaf.path])
    ]


def flatten(instance: Any) -> dict[str, Any]:
    """All options of an instance: dotted path -> value."""
    return {leaf.path: _get(instance, leaf.path) for leaf in options_of(instance)}


def override(instance: T, values: Mapping[str, Any]) -> T:
    """A copy with other values, all set at once, so that a class which checks itself sees no half of them.

    Raises:
        ValueError: a dotted path that is no option.
    """
    unknown = set(values) - {leaf.path for leaf in options_of(instance)}
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
        inner[name] = str(value) if isinstance(value, Path) or value in (math.inf, -math.inf) else value
    return result


def from_json(defaults: T, data: Mapping[str, Any]) -> T:
    """The inverse of `to_json`. Options that are missing have their defaults: the file may be older than they are.

    Raises:
        ConfigError: names the option that is unknown, or of the wrong type or value.
    """
    try:
        return override(defaults, read_json(defaults, data))
    except UsageError as error:
        raise ConfigError(str(error)) from error


def read_json(tree: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `tree` that JSON data gives: dotted path -> value.

    Raises:
        ConfigError: names the option that is unknown, or of the wrong type or value.
    """
    values = dict(_flatten_json(data, tree, ""))
    leaves = {leaf.path: leaf for leaf in options_of(tree)}
    if unknown := sorted(set(values) - set(leaves)):
        told = ", ".join(f"{path}{_hint(path, leaves)}" for path in unknown)
        raise ConfigError(f"expected options that this version has, got {told}")
    return {path: leaves[path].from_json(value) for path, value in values.items()}


def omitted(defaults: Any, data: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted paths of the options that `from_json` leaves at their defaults."""
    given = dict(_flatten_json(data, defaults, ""))
    return tuple(leaf.path for leaf in options_of(defaults) if leaf.path not in given)


def difference(run: T, now: T, *, fixed: bool = False) -> list[str]:
    """What differs between a run's options and the present ones, e.g. "learning_rate: 0.001 in the run, 0.0003 now".

    Args:
        run, now: two trees of the same classes.
        fixed: only the options that a run must keep.
    """
    before, after = flatten(run), flatten(now)
    return [
        f"{leaf.path.rpartition('.')[2]}: {before[leaf.path]} in the run, {after[leaf.path]} now"
        for leaf in options_of(now)
        if before[leaf.path] != after[leaf.path] and (leaf.fixed or not fixed)
    ]


def _add_option(group: argparse._ArgumentGroup, leaf: Option, default: Any) -> None:
    text = leaf.help if default in (None, "") or "(default:" in leaf.help else f"{leaf.help} (default: {default})"
    text = argparse.SUPPRESS if leaf.hidden else text.replace("%", "%%")
    if leaf.kind is bool:
        group.add_argument(
            leaf.flag, dest=leaf.path, default=argparse.SUPPRESS, action=argparse.BooleanOptionalAction, help=text
        )
        return
    group.add_argument(
        leaf.flag, dest=leaf.path, default=argparse.SUPPRESS, type=leaf.parse, metavar=leaf.metavar, help=text
    )


def _hint(path: str, known: Collection[str]) -> str:
    """The option that a dotted path may be meant for: of the same name in another group, or one that looks like it."""
    named = [one for one in known if one.rpartition(".")[2] == path.rpartition(".")[2]]
    sections = {part for one in known for part in (one, one.partition(".")[0])}
    near = named or difflib.get_close_matches(path, sections, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _get(instance: Any, path: str) -> Any:
    for name in path.split("."):
        instance = getattr(instance, name)
    return instance


def _flatten_json(data: Any, tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted path -> raw value, following the nesting of `tree`."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{prefix.rstrip('.') or type(tree).__name__}: expected an object, got {data!r:.100}")
    for name, value in data.items():
        nested = getattr(tree, name, None)
        if dataclasses.is_dataclass(nested):
            yield from _flatten_json(value, nested, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
