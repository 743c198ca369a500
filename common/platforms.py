"""Where seedbed runs: all of it on Linux; what a client needs on macOS and Windows too."""

from __future__ import annotations

import sys

from seedbed.common.errors import UsageError

_NAMES = {"darwin": "macOS", "win32": "Windows"}


def expect_linux(what: str) -> None:
    """Refuses what needs Linux anywhere else.

    Raises:
        UsageError: says what runs here.
    """
    if sys.platform != "linux":
        here = _NAMES.get(sys.platform, sys.platform)
        raise UsageError(
            f"{what} needs Linux, this is {here}: here run seedbed env, check, doctor and top, and in Python "
            "seedbed.connect, for a server on Linux"
        )


def can_isolate() -> bool:
    """Whether an environment can be given a process of its own: a socket is handed to it by its descriptor."""
    return sys.platform != "win32"
