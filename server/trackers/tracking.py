"""The trackers of a run, each in a thread of its own: one that raises, hangs or is slow costs itself and a warning.

Lines wait in a queue of bounded size and are lost when it is full. After three errors one after the other a tracker is
off. At the end of a run all have a few seconds together; who is not ready by then is left behind.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from seedbed.server.shared.spread import Spread
from seedbed.server.trackers.interface import TrackedRun, Tracker

logger = logging.getLogger(__name__)

_MAX_WAITING = 64  # log intervals
_MAX_ERRORS = 3
_SLOW_S = 60.0
_FINISH_S = 20.0


class Tracking:
    """All of them, from the thread that logs, which never waits for any but in `close`."""

    def __init__(
        self,
        makers: Mapping[str, Callable[[], Tracker]],
        run: TrackedRun,
        *,
        finish_s: float = _FINISH_S,
        slow_s: float = _SLOW_S,
        on_hang: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts nothing: a run that never gets to its first line leaves no trace anywhere.

        Args:
            makers: by name.
            run: what they are told first.
            finish_s: how long `close` waits at most.
            slow_s: for one line; longer is worth a warning.
            on_hang: called if one has not finished by then.
        """
        self._on_hang = on_hang
        self._lanes = [_Lane(name, make, run, slow_s) for name, make in makers.items()]
        self._finish_s = finish_s

    def log(self, metrics: Mapping[str, float], histograms: Mapping[str, Spread], step: int) -> None:
        """Hands an interval to each tracker."""
        for lane in self._lanes:
            lane.put(lambda tracker: _tell(tracker, metrics, histograms, step))

    def close(self, summary: Mapping[str, Any]) -> None:
        """Lets all finish, for a while."""
        deadline_s = time.monotonic() + self._finish_s
        for lane in self._lanes:
            lane.finish(summary)
        ended = [lane.join_until(deadline_s, self._finish_s) for lane in self._lanes]
        if not all(ended):
            self._on_hang()


def _tell(tracker: Tracker, metrics: Mapping[str, float], histograms: Mapping[str, Spread], step: int) -> None:
    tracker.log(metrics, step)
    take = getattr(tracker, "histograms", None)
    if take is not None and histograms:
        take(histograms, step)


class _Lane:
    """One tracker, its queue and its thread."""

    def __init__(self, name: str, make: Callable[[], Tracker], run: TrackedRun, slow_s: float) -> None:
        self._name = name
        self._make = make
        self._run = run
        self._slow_s = slow_s
        self._queue: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(_MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._tracker: Tracker | None = None
        self._errors = 0
        self._is_off = False
        self._busy_since_s: float | None = None
        self._said_slow = False
        self._summary: Mapping[str, Any] = {}

    def put(self, task: Callable[[Tracker], None]) -> None:
        """Queues a task; the first one starts the thread."""
        if self._is_off:
            return
        if self._thread is None:
            # A daemon, and so are threads that the tracker starts: the process ends without those that hang.
            self._thread = threading.Thread(target=self._work, name=f"tracker {self._name}", daemon=True)
            self._thread.start()
        since_s = self._busy_since_s
        try:
            self._queue.put_nowait(task)
        except queue.Full:
            self._say_slow(f"{_MAX_WAITING} lines wait, so newer ones are lost")
        else:
            if since_s is not None and time.monotonic() - since_s > self._slow_s:
                self._say_slow(f"no answer for {time.monotonic() - since_s:.0f} s")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Lets it end after what is queued."""
        if self._thread is None:
            return
        self._summary = summary
        while self._thread.is_alive():
            try:
                self._queue.put_nowait(None)
                return
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._queue.get_nowait()

    def join_until(self, deadline_s: float, waited_s: float) -> bool:
        """Waits until then for the thread's end; returns whether it has come."""
        if self._thread is None:
            return True
        self._thread.join(max(0.0, deadline_s - time.monotonic()))
        if not self._thread.is_alive():
            return True
        logger.warning(
            "tracker %s was not ready within %g s: the run ends without it, and its newest lines may be lost",
            self._name,
            waited_s,
        )
        return False

    def _work(self) -> None:
        while not self._is_off:
            task = self._queue.get()
            self._busy_since_s = time.monotonic()
            try:
                if task is not None:
                    task(self._started())
                elif self._tracker is not None:
                    self._tracker.finish(self._summary)
                self._errors = 0
            except (Exception, SystemExit) as error:
                self._fail(error)
            self._busy_since_s = None
            if task is None:
                return

    def _started(self) -> Tracker:
        if self._tracker is None:
            tracker = self._make()
            tracker.start(self._run)
            self._tracker = tracker
        return self._tracker

    def _fail(self, error: BaseException) -> None:
        self._errors += 1
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        self._is_off = self._errors >= _MAX_ERRORS
        if self._is_off:
            logger.error("tracker %s is off after %d errors, the run goes on: %s", self._name, self._errors, text)
        else:
            logger.warning("tracker %s: %s", self._name, text)
        logger.debug("tracker %s", self._name, exc_info=error)

    def _say_slow(self, what: str) -> None:
        if not self._said_slow:
            self._said_slow = True
            logger.warning("tracker %s is slow or hangs (%s): the run goes on", self._name, what)
