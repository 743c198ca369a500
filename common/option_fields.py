"""The fields of option dataclasses: how one is declared, and how its value is read from text or from JSON.

`options.py` holds what is done with whole trees of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from seedbed.common.errors import ConfigError

_METADATA_KEY = "seedbed.option"
_KIND_NAMES = {
    str: "a text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    Path: "a path",
}
_METAVARS = {str: "TEXT", int: "N", float: "X", Path: "PATH"}


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    metavar: str | None = None,
    flag: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    fixed: bool = False,
    hidden: bool = False,
) -> Any:
    """Declares a field of a frozen dataclass as an option.

    Args:
        default: of the field's type.
        help: one line; the default is appended to it unless that is None.
        choices: the only values allowed; a Literal type says the same.
        metavar: what stands for the value in --help.
        flag: where the name is not the field's, e.g. "--lambda" for `lambda_`.
        minimum, maximum: of a number, inclusive.
        above, below: of a number, exclusive.
        fixed: shapes, the contract with clients, or the meaning of stored data depend on it: a run that goes on must
            keep it.
        hidden: --help does not show it: a process says it to its child.
    """
    details = {
        "help": help,
        "choices": choices,
        "metavar": metavar,
        "flag": flag,
        "bounds": Bounds(minimum, maximum, above, below),
        "fixed": fixed,
        "hidden": hidden,
    }
    return dataclasses.field(default=default, metadata={_METADATA_KEY: details})


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number must keep to; None: nothing on that side. The names are those of `option`."""

    minimum: float | None
    maximum: float | None
    above: float | None
    below: float | None

    def broken(self, value: Any) -> str | None:
        """The bound that a number does not keep to, in words; None where it keeps to all."""
        if self.minimum is not None and value < self.minimum:
            return f"at least {self.minimum}"
        if self.maximum is not None and value > self.maximum:
            return f"at most {self.maximum}"
        if self.above is not None and value <= self.above:
            return f"more than {self.above}"
        if self.below is not None and value >= self.below:
            return f"less than {self.below}"
        return None


@dataclass(frozen=True, slots=True)
class Option:
    """A leaf of the tree: one flag, one value.

    Attributes:
        path: dotted, from the outermost class.
        kind: what values are instances of; None aside, if `optional`.
        flag, help, choices, metavar, bounds, fixed, hidden: as declared.
    """

    path: str
    kind: type
    optional: bool
    flag: str
    help: str
    choices: tuple[str, ...] | None
    metavar: str
    bounds: Bounds
    fixed: bool
    hidden: bool

    @property
    def flags(self) -> tuple[str, ...]:
        """All forms of it on the command line."""
        return (self.flag, f"--no-{self.flag[2:]}") if self.kind is bool else (self.flag,)

    def parse(self, text: str) -> Any:
        """Reads the command line's form; raises what argparse expects."""
        if self.optional and text.lower() == "none":
            return None
        try:
            value = _PARSERS[self.kind](text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {_KIND_NAMES[self.kind]}, got {text!r}") from None
        return self._checked(value, argparse.ArgumentTypeError)

    def from_json(self, value: Any) -> Any:
        """Reads JSON's form, which has neither infinities nor paths; raises ConfigError."""
        if value is None and self.optional:
            return None
        if self.kind is float and (type(value) is int or value in ("inf", "-inf")):
            value = float(value)
        elif self.kind is int and type(value) is float and value.is_integer():  # 20e6
            value = int(value)
        elif self.kind is Path and isinstance(value, str):
            value = Path(value)
        if not isinstance(value, self.kind) or (self.kind is int and isinstance(value, bool)):
            raise ConfigError(f"{self.path}: expected {_KIND_NAMES[self.kind]}, got {value!r}")
        return self._checked(value, lambda text: ConfigError(f"{self.path}: {text}"))

    def to_argv(self, value: Any) -> list[str]:
        """The command line that gives it this value."""
        if self.kind is bool:
            return [self.flag if value else f"--no-{self.flag[2:]}"]
        return [f"{self.flag}={value}"]

    def _checked(self, value: Any, error: Callable[[str], Exception]) -> Any:
        if self.choices and value not in self.choices:
            raise error(f"expected one of {', '.join(self.choices)}, got {value!r}")
        if self.kind is float and math.isnan(value):  # JSON's NaN; text says no such thing
            raise error(f"expected a number, got {value}")
        if (expected := self.bounds.broken(value)) is not None:
            raise error(f"expected {expected}, got {value}")
        return value


def _parse_int(text: str) -> int:
    """An integer, also as 20_000_000 or 20e6."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isnan(number):
        raise ValueError
    return number


def _parse_path(text: str) -> Path:
    if not text:  # a variable of a shell that is not set; it would be the working directory
        raise ValueError
    return Path(text)


_PARSERS: dict[type, Callable[[str], Any]] = {
    str: str,
    int: _parse_int,
    float: _parse_float,
    Path: _parse_path,
}


def option_groups(tree: Any, prefix: str = "") -> Iterator[tuple[str, list[Option]]]:
    """The title and the options of each class in the tree, outer ones first.

    Args:
        tree: an instance of the outermost dataclass. Nested parts go by their values, not by annotations: so a part may
            be of one class in one tree and of another in the next.
        prefix: of the paths.
    """
    cls = type(tree)
    hints = typing.get_type_hints(cls)
    leaves = []
    nested = []
    for field in dataclasses.fields(cls):
        value = getattr(tree, field.name)
        if dataclasses.is_dataclass(value):
            nested.append((value, f"{prefix}{field.name}."))
        else:
            leaves.append(_make_option(field, hints[field.name], prefix))
    yield (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip("."), leaves
    for inner, inner_prefix in nested:
        yield from option_groups(inner, inner_prefix)


def options_of(tree: Any) -> list[Option]:
    """All options in the tree, in the order of --help."""
    return [leaf for _, leaves in option_groups(tree) for leaf in leaves]


def _make_option(field: dataclasses.Field[Any], annotation: Any, prefix: str) -> Option:
    path = prefix + field.name
    assert _METADATA_KEY in field.metadata, f"{path}: expected option(...) or a nested dataclass"
    details = field.metadata[_METADATA_KEY]
    kind, optional, choices = _resolve(annotation)
    assert kind in _KIND_NAMES, f"{path}: no options of type {annotation}"
    choices = details["choices"] or choices
    return Option(
        path=path,
        kind=kind,
        optional=optional,
        flag=details["flag"] or "--" + field.name.replace("_", "-"),
        help=details["help"],
        choices=tuple(choices) if choices else None,
        metavar=details["metavar"] or ("{" + ",".join(choices) + "}" if choices else _METAVARS.get(kind, "")),
        bounds=details["bounds"],
        fixed=details["fixed"],
        hidden=details["hidden"],
    )


def _resolve(annotation: Any) -> tuple[Any, bool, Sequence[str] | None]:
    """The type to read, whether it may be None, and the choices of a Literal."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType) and len(arguments) == 2 and types.NoneType in arguments:
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        kind, _, choices = _resolve(inner)
        return kind, True, choices
    if origin is Literal:
        return str, False, arguments
    return annotation, False, None
