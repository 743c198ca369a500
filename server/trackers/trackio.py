"""Trackio: a local database that `trackio show` displays; TRACKIO_DIR says where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from seedbed.server.trackers.identity import identity
from seedbed.server.trackers.interface import TrackedRun


class Trackio:
    """The tracker behind `--track trackio`."""

    def start(self, run: TrackedRun) -> None:
        """Begins the run there, or goes on with it."""
        import trackio

        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "seedbed"),
            name=f"{run.name}-{identity(run.directory, 'trackio')}",  # names are what Trackio knows runs by
            config={**run.config, "environment_name": run.environment, "seedbed_version": run.version},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One record."""
        self._run.log(dict(metrics), step=step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Waits until all is written."""
        self._run.finish()
