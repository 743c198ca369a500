"""TensorBoard: events in the run's directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.server.shared.spread import Spread
from seedbed.server.trackers.interface import TrackedRun


class TensorBoard:
    """The tracker behind `--track tensorboard`."""

    def start(self, run: TrackedRun) -> None:
        """Opens a file of events; what lies beyond the last line that stays is no part of the curves any more."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        purge_step = None if run.resume_step is None else run.resume_step + 1
        self._events = SummaryWriter(str(run.directory), purge_step=purge_step)
        lines = "\n".join(f"    {name}: {value}" for name, value in _flat(run.config))
        self._events.add_text("config", lines, run.resume_step or 0)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """An event for each; they can be read when this returns."""
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def histograms(self, histograms: Mapping[str, Spread], step: int) -> None:
        """An event for each."""
        for name, one in histograms.items():
            self._events.add_histogram_raw(
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
        self._events.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Closes the file."""
        self._events.close()


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted names and values."""
    found: list[tuple[str, Any]] = []
    for name, value in config.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return found
