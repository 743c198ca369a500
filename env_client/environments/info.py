"""Numbers out of an environment's `info`: those of an episode's last step travel with its end.

"auto" takes every number at the top of `info`: booleans, integers, floats, arrays of one element. A list of names takes
those, and with "/" those that lie deeper: "stats/kills" is info["stats"]["kills"].
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seedbed.common.info_numbers import AUTO, MAX_NUMBERS, is_name, is_number, parse_keys

_log = logging.getLogger(__name__)

_NOT_OURS = ("TimeLimit.truncated", "action_mask")
"""Numbers of wrappers that say what an episode's end says anyway, and masks."""

Reader = Callable[[Any], Mapping[str, float]]
"""info -> the numbers that travel; never raises."""


def info_reader(keys: str) -> Reader:
    """What reads the numbers.

    Args:
        keys: "auto", "none", or names with commas between.

    Raises:
        UsageError: a name that none may have, or too many of them.
    """
    if keys == AUTO:
        return _all_numbers
    names = parse_keys(keys)
    return functools.partial(_named_numbers, names)


def info_of_row(info: Any, row: int) -> dict[str, Any]:
    """One row's part of what a vector of Gymnasium gives: an array of all rows for each name, and which have it."""
    found: dict[str, Any] = {}
    for name, values in info.items() if isinstance(info, Mapping) else ():
        if (
            not isinstance(values, np.ndarray)
            or values.ndim == 0
            or row >= len(values)
            or (name[:1] == "_" and name[1:] in info)
        ):
            continue
        has = info.get(f"_{name}")
        if not isinstance(has, np.ndarray) or bool(has[row]):
            found[name] = values[row]
    return found


def _all_numbers(info: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    if not isinstance(info, Mapping):
        return found
    for name, value in info.items():
        if len(found) == MAX_NUMBERS:
            _say_too_many()
            break
        if isinstance(name, str) and name not in _NOT_OURS and is_name(name):
            number = _number(value)
            if number is not None:
                found[name] = number
    return found


def _named_numbers(names: tuple[str, ...], info: Any) -> dict[str, float]:
    values = {name: _number(_within(info, name)) for name in names}
    for name in (name for name, value in values.items() if value is None):
        _say_missing(name, ", ".join(map(str, info)) if isinstance(info, Mapping) else "")
    return {name: value for name, value in values.items() if value is not None}


def _within(info: Any, name: str) -> Any:
    """The value of a name, at the top or deeper."""
    if not isinstance(info, Mapping):
        return None
    if name in info:
        return info[name]
    first, _, rest = name.partition("/")
    return _within(info.get(first), rest) if rest else None


def _number(value: Any) -> float | None:
    """A number that may travel; None of all else."""
    if isinstance(value, np.ndarray):
        if value.size != 1 or value.dtype.kind not in "biuf":
            return None
        value = value.item()
    if not isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of a thousand digits
        return None
    return number if is_number(number) else None


@functools.cache
def _say_too_many() -> None:
    """Once for all environments of a process."""
    _log.warning("the environment's info has more than %d numbers: say --info-keys a,b for those you want", MAX_NUMBERS)


_said: set[str] = set()


def _say_missing(name: str, known: str) -> None:
    """Once for each name; `info` may have it at other ends."""
    if name not in _said:
        _said.add(name)
        _log.warning(
            "--info-keys: the info of this episode's last step has no number %r; it has %s", name, known or "nothing"
        )
