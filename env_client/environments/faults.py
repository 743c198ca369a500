"""What can go wrong inside an environment, on purpose: for tests of what that may cost."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
from collections.abc import Callable

_LONG_S = 10**6


def _raise() -> float:
    raise RuntimeError("this environment is broken on purpose")


def _hang() -> float:
    time.sleep(_LONG_S)
    return 0.0


def _hang_alone() -> float:
    """Lets no other thread of the interpreter run, as a loop in C does."""
    ctypes.PyDLL(None).sleep(_LONG_S)
    return 0.0


def _crash() -> float:
    ctypes.string_at(0)
    return 0.0


def _quit() -> float:
    sys.exit(0)


def _vanish() -> float:
    os._exit(3)


def _nan() -> float:
    return math.nan


FAULTS: dict[str, Callable[[], float]] = {
    "raise": _raise,
    "hang": _hang,
    "hang-alone": _hang_alone,
    "crash": _crash,
    "quit": _quit,
    "vanish": _vanish,
    "nan": _nan,
}
"""Name -> what happens in a step; if it returns, that is the reward."""
