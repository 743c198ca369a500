"""Weights & Biases: online with a key, else offline into RUN/wandb, which `wandb sync` uploads later."""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlparse

from seedbed.server.shared.spread import Spread
from seedbed.server.trackers.identity import identity
from seedbed.server.trackers.interface import TrackedRun

logger = logging.getLogger(__name__)

STEP = "frames"
"""The x axis of all numbers: a run that goes on may begin before its last line, which W&B's own steps cannot."""


class WandB:
    """The tracker behind `--track wandb`. The variables of W&B hold: WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, ..."""

    def start(self, run: TrackedRun) -> None:
        """Begins the run there, or goes on with it."""
        import wandb

        self._histogram = wandb.Histogram
        mode: Any = None
        if "WANDB_MODE" not in os.environ and not _has_key():  # it would ask at the terminal, and wait
            mode = "offline"
            logger.warning(
                "tracker wandb: there is no key (wandb login, or WANDB_API_KEY), so the run is written to %s; "
                "`wandb sync` uploads it",
                run.directory / "wandb",
            )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "seedbed"),
            name=run.name,
            id=identity(run.directory, "wandb"),
            resume="allow",
            dir=str(run.directory),
            config={**run.config, "environment_name": run.environment, "seedbed_version": run.version},
            mode=mode,
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One record."""
        self._run.log({**metrics, STEP: step})

    def histograms(self, histograms: Mapping[str, Spread], step: int) -> None:
        """One record."""
        shown = {name: self._histogram(np_histogram=(list(one.counts), one.edges)) for name, one in histograms.items()}
        self._run.log({**shown, STEP: step})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Waits until all is written or uploaded."""
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=int(bool(summary.get("failed"))))


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
