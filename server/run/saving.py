"""When a checkpoint may be written, and what becomes of it if it cannot be."""

from __future__ import annotations

import logging
import time

from seedbed.common.errors import DivergedError
from seedbed.server.run.checkpoint import CheckpointStore
from seedbed.server.run.state import RunState
from seedbed.server.shared.vitals import Vitals

logger = logging.getLogger(__name__)


class Saver:
    """Writes the checkpoints of a run, and none that would be worth less than the one before it."""

    def __init__(self, store: CheckpointStore, vitals: Vitals) -> None:
        """Writes to `store` and counts in the device process's `vitals`."""
        self._store = store
        self._vitals = vitals

    def save(self, state: RunState) -> None:
        """Writes a checkpoint; a full disk costs the checkpoint, not the run.

        Raises:
            DivergedError: a number in it is not finite. The checkpoints from before are as they were.
        """
        checkpoint = state.to_checkpoint()
        lost = [name for name, tensor in checkpoint.tensors.items() if not bool(tensor.isfinite().all())]
        if lost:
            raise DivergedError(f"expected finite parameters, {lost[0]} has others: the last checkpoint is from before")
        try:
            path = self._store.save(checkpoint)
        except OSError as error:
            self._vitals.add("checkpoint_failures")
            logger.error("no checkpoint was written, the one before it stays: %s", error)
            return
        self._vitals["saved_s"] = time.monotonic()
        self._vitals.add("checkpoints")
        logger.info("saved %s", path)
