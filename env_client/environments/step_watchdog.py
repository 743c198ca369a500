"""Ends the client when an environment hangs: nothing waits for ever.

A process whose thread is stuck in somebody else's code cannot be mended from within, so it ends, and whoever started it
starts it again; the server does not wait meanwhile. `--isolate` is gentler, and dearer (`isolated.py`).
"""

from __future__ import annotations

import faulthandler
import math
import os
import sys
import threading
import time
from collections.abc import Callable

from seedbed.common.errors import BrokenError

_PERIOD_S = 1.0
_SLACK_S = 5.0


class Watchdog:
    """Looks at the actor's thread once a second. Does nothing until it is started.

    It counts its own periods instead of reading a clock: a process that was stopped and continued did not hang.

    Args:
        period_s: how often it looks.
        give_up: called with the message when an environment hangs; ends the process unless given.
    """

    def __init__(self, period_s: float = _PERIOD_S, give_up: Callable[[str], None] | None = None) -> None:
        self._period_s = period_s
        self._give_up = give_up or _end_process
        self._calls = 0
        self._limit_s = math.inf
        self._what = ""

    def watch(self, what: str, limit_s: float) -> None:
        """A call begins that may take this long; it is on the hot path and costs two assignments."""
        self._calls += 1
        self._what, self._limit_s = what, limit_s

    def rest(self) -> None:
        """The call is over; what comes next may take any time."""
        self._limit_s = math.inf

    def start(self, longest_s: float) -> None:
        """Watches from now on, in a thread of its own.

        Args:
            longest_s: of all limits. Code that hangs and lets no other thread run, this one neither, is ended by
                the interpreter's own watchdog, which runs without the interpreter: seconds after this time.
        """
        run = threading.Thread(target=self._run, args=(longest_s + _SLACK_S,), name="watchdog", daemon=True)
        run.start()

    def look(self, seen_calls: int, waited_s: float) -> tuple[int, float]:
        """One look.

        Args:
            seen_calls, waited_s: what the last look returned; 0 and 0 for the first.

        Returns:
            The call under way, and for how long it has been.
        """
        if self._calls != seen_calls:
            return self._calls, 0.0
        waited_s += self._period_s
        if waited_s > self._limit_s:
            self._give_up(f"{self._what} took more than {self._limit_s:g} s")
        return seen_calls, waited_s

    def _run(self, longest_s: float) -> None:
        calls, waited_s = 0, 0.0
        while True:
            faulthandler.dump_traceback_later(longest_s, exit=True)  # replaces the one before
            time.sleep(self._period_s)
            calls, waited_s = self.look(calls, waited_s)


def _end_process(message: str) -> None:
    faulthandler.dump_traceback()  # of all threads: shows where it hangs
    print(f"seedbed: error: {message}", file=sys.stderr, flush=True)
    os._exit(BrokenError.exit_code)  # the thread that hangs would keep any other end from happening
