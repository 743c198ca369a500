"""TensorBoard: events in the run's directory."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedbed.server.shared.spread import Spread
from seedbed.server.trackers.interface import TrackedRun

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)


class TensorBoard:
    """The tracker behind `--track tensorboard`."""

    def start(self, run: TrackedRun) -> None:
        """Opens a file of events; what lies beyond the last line that stays is no part of the curves any more."""
        self._directory = run.directory
        self._purge_step = None if run.resume_step is None else run.resume_step + 1
        self._events: SummaryWriter | None = None
        self._fails = False
        threading.excepthook = _Hook(threading.excepthook)
        lines = "\n".join(f"    {name}: {value}" for name, value in run.options())
        self._write(lambda events: events.add_text("config", lines, run.resume_step or 0))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """An event for each; they can be read when this returns."""

        def add(events: SummaryWriter) -> None:
            for name, value in metrics.items():
                events.add_scalar(name, value, step)

        self._write(add)

    def histograms(self, histograms: Mapping[str, Spread], step: int) -> None:
        """An event for each."""

        def add(events: SummaryWriter) -> None:
            for name, one in histograms.items():
                events.add_histogram_raw(
                    name,
                    min=one.low,
                    max=one.high,
                    num=sum(one.counts),
                    sum=one.total,
                    sum_squares=one.squares,
                    bucket_limits=one.edges[1:],
                    bucket_counts=list(one.counts),
                    global_step=step,
                )

        self._write(add)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Closes the file."""
        self._close()

    def _write(self, add: Callable[[SummaryWriter], None]) -> None:
        """A full disk costs events, and one line in the log.

        What has failed once fails for ever; another file is begun when there is something to write again. One that
        nothing could be written to goes: a disk that stays full would gather one for each attempt.
        """
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        try:
            if self._events is None:
                self._events = SummaryWriter(str(self._directory), purge_step=self._purge_step)
                self._purge_step = None
            add(self._events)
            self._events.flush()
        except OSError as error:
            if not self._fails:
                logger.error("events for TensorBoard are missed: %s", error)
            self._fails = True
            self._close()
            self._remove_empty()
        else:
            self._fails = False

    def _remove_empty(self) -> None:
        with contextlib.suppress(OSError):
            for file in Path(self._directory).glob("events.out.tfevents.*"):
                if not file.stat().st_size:
                    file.unlink()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            if self._events is not None:
                self._events.close()
        self._events = None


class _Hook:
    """What is called for threads that end by an exception, but for those of events, of which `_write` hears too."""

    def __init__(self, before: Callable[[threading.ExceptHookArgs], object]) -> None:
        self._before: Callable[[threading.ExceptHookArgs], object]
        self._before = before._before if isinstance(before, _Hook) else before

    def __call__(self, arguments: threading.ExceptHookArgs) -> None:
        """See the class."""
        if not (type(arguments.thread).__module__.startswith("tensorboard.") and arguments.exc_type is OSError):
            self._before(arguments)
