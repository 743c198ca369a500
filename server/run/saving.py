"""When a checkpoint may be written, and what becomes of it if it cannot be."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from seedbed.common.errors import DivergedError
from seedbed.common.report import mention
from seedbed.server.run.checkpoint import CheckpointStore, find_best
from seedbed.server.run.cohorts import Verdict
from seedbed.server.run.state import RunState
from seedbed.server.shared.vitals import Vitals

logger = logging.getLogger(__name__)


class Saver:
    """Writes the checkpoints of a run, and none that would be worth less than the one before it, or the same."""

    def __init__(self, directory: Path, keep: int, before: RunState, vitals: Vitals) -> None:
        """Writes nothing yet.

        Args:
            directory: of the run's checkpoints.
            keep: how many remain, beside the best one.
            before: where the run stood when it was started; that is on the disk, or not worth it.
            vitals: of the device process, which count.
        """
        self._store = CheckpointStore(directory, keep)
        self._vitals = vitals
        self._saved = _progress_of(before)
        best = find_best(directory)
        self._best = None if best is None else best[1]

    def is_better(self, verdict: Verdict) -> bool:
        """Whether a cohort is better than the one that belongs to the best checkpoint."""
        return self._best is None or verdict.mean > self._best

    def save(self, state: RunState, verdict: Verdict | None = None) -> bool:
        """Writes a checkpoint, unless nothing has changed; a full disk costs the checkpoint, not the run.

        Args:
            state: where the run stands.
            verdict: of a cohort that has just been judged; None: there is none.

        Returns:
            Whether a checkpoint on the disk has this state.

        Raises:
            DivergedError: a number in it is not finite. The checkpoints from before are as they were.
        """
        if _progress_of(state) == self._saved:
            return True
        checkpoint = state.to_checkpoint()
        lost = [name for name, tensor in checkpoint.tensors.items() if not bool(tensor.isfinite().all())]
        if lost:
            raise DivergedError(f"expected finite parameters, {lost[0]} has others: the last checkpoint is from before")
        try:
            path = self._store.save(checkpoint)
            if verdict is not None and self.is_better(verdict):
                self._store.mark_best(path, verdict.mean)
                self._best = verdict.mean
        except OSError as error:
            self._vitals.add("checkpoint_failures")
            logger.error("no checkpoint was written, the one before it stays: %s", error)
            return False
        self._saved = _progress_of(state)
        self._vitals["saved_s"] = time.monotonic()
        self._vitals.add("checkpoints")
        logger.info("saved %s", path)
        mention({"checkpoint": str(path)})
        return True


def _progress_of(state: RunState) -> tuple[int, int, str | None]:
    """All that can change: without steps and updates nothing else does."""
    return state.agent_steps, state.updates, state.finished
