"""Ends the process when inference or learning is stuck, so that whoever supervises it starts it again.

A deadlocked thread raises nothing and would hold a machine for ever. Where every thread stands goes to the log first.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from seedbed.server.shared.health import examine
from seedbed.server.shared.vitals import VitalsTable

logger = logging.getLogger(__name__)

STALLED_EXIT_CODE = 75
"""As for errors that another attempt may mend: see common/errors.py."""

_STDERR = 2  # itself: sys.stderr may be a live display that needs locks
_CHECK_S = 1.0
_OVERSLEPT_S = 2.0


class Watchdog:
    """A thread that looks at the vitals once a second.

    When it has overslept itself the whole process was stopped (a debugger, a frozen container, a laptop's lid): then
    everybody gets the full time again.
    """

    def __init__(
        self,
        vitals: VitalsTable,
        limit_s: float,
        end: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watches nothing until `start`.

        Args:
            vitals: of the server.
            limit_s: see `health.examine`.
            end: called once when something is stuck; ends the process if None.
            clock: that of the vitals.
        """
        self._vitals = vitals
        self._limit_s = limit_s
        self._end = end or end_process
        self._clock = clock
        self._looked_s = self._trusted_s = clock()

    def start(self) -> None:
        """Watches from now on, for as long as the process lives."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def look(self) -> bool:
        """One look. Returns whether something is stuck, in which case the end has been called."""
        now_s = self._clock()
        if now_s - self._looked_s > _OVERSLEPT_S:
            self._trusted_s = now_s
        self._looked_s = now_s
        stuck = examine(self._vitals, self._limit_s, now_s).stuck
        if not stuck or now_s - self._trusted_s <= self._limit_s:
            return False
        logger.critical("%s: this process ends now, its threads stand here:", "; ".join(stuck))
        self._end()
        return True

    def _run(self) -> None:
        self._looked_s = self._trusted_s = self._clock()
        while not self.look():
            time.sleep(_CHECK_S)


def end_process() -> NoReturn:
    """Logs where every thread stands and ends the process. What it started notices, and ends too."""
    faulthandler.dump_traceback(file=_STDERR, all_threads=True)
    os._exit(STALLED_EXIT_CODE)  # nothing that is stuck could be asked to leave
