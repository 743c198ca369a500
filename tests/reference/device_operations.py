"""Operations of torch: what they change, what they are made of, and what of the program asked for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

_ROOT = Path(__file__).parents[2]
_PROGRAM = tuple(f"{_ROOT / folder}/" for folder in ("server", "api", "common"))


def place() -> str:
    """File and function of the program, innermost first, that is at work; of the test where it is none of it."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PROGRAM):
            return f"{name.removeprefix(f'{_ROOT}/')} {frame.f_code.co_qualname.replace('.<locals>', '')}"
        frame = frame.f_back  # type: ignore[assignment]
    return "tests"


def leaves(values: Iterable[Any]) -> Iterator[Any]:
    """Arguments, and what is in those that are lists."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from leaves(value)
        else:
            yield value


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Applied to what is in lists, tuples and dictionaries."""
    if isinstance(value, (list, tuple)):
        return type(value)([mapped(function, part) for part in value])
    if isinstance(value, dict):
        return {key: mapped(function, part) for key, part in value.items()}
    return function(value)


def changed_arguments(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """Those that an operation changes in place, lists among them."""
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in _changed(func)]


@cache
def is_view(func: Any) -> bool:
    """Whether its result is its argument's memory."""
    infos = [result.alias_info for result in func._schema.returns]
    return any(info is not None and not info.is_write for info in infos)


@cache
def _changed(func: Any) -> tuple[tuple[int, str], ...]:
    arguments = enumerate(func._schema.arguments)
    return tuple((i, x.name) for i, x in arguments if x.alias_info is not None and x.alias_info.is_write)


@cache
def is_composite(func: Any) -> bool:
    """Whether it is made of other operations."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))
