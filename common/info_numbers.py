"""Numbers that environments tell of an episode beside its return: which names and values travel.

Clients leave out what no server takes; servers refuse it.
"""

from __future__ import annotations

import re

from seedbed.common.errors import UsageError

AUTO, NONE = "auto", "none"
"""In place of names: all numbers at the top of `info`, or none."""

MAX_NUMBERS = 32
"""Of an episode, and names of a run: a client that makes up ever new ones must not grow anybody's tables."""

MAX_SIZE = 3.4e38
"""Largest absolute value: what a float32 holds."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,63}")


def is_name(text: str) -> bool:
    """Whether a number may have this name: others are in no file, label or page."""
    return _NAME.fullmatch(text) is not None


def is_number(value: float) -> bool:
    """Whether a number may travel: finite as a float32."""
    return abs(value) <= MAX_SIZE  # NaN is not


def parse_keys(text: str) -> tuple[str, ...]:
    """The names in --info-keys; none where it is "auto" or "none".

    Raises:
        UsageError: a name that no number may have, or too many of them.
    """
    if text in (AUTO, NONE):
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if wrong := [name for name in names if not is_name(name)]:
        raise UsageError(
            "--info-keys: expected auto, none, or names of letters, digits and _./- with commas between, "
            f"got {wrong[0]!r}"
        )
    if len(names) > MAX_NUMBERS:
        raise UsageError(f"--info-keys: expected at most {MAX_NUMBERS} names, got {len(names)}")
    return names
