"""Recorded data: what passes a server, or an evaluation, as a Minari data set."""

from __future__ import annotations

import logging
import re

from seedbed.common.cli import naming_extras
from seedbed.common.counting import count
from seedbed.common.errors import BrokenError, UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.options.config import ServerConfig
from seedbed.server.recording.episodes import EpisodeRecorder, Quota
from seedbed.server.shared.slots import SlotTable

logger = logging.getLogger(__name__)


class Recording:
    """A recorder, and the data set that it fills.

    Attributes:
        recorder: to be told what passes.
        dataset_id: of the data set.
    """

    def __init__(
        self,
        slots: SlotTable,
        dataset_id: str,
        *,
        algorithm: str,
        description: str,
        share: float = 1.0,
        quota: Quota | None = None,
        goes_on: bool = False,
    ) -> None:
        """Opens the data set.

        Args:
            slots: what passes.
            dataset_id: of Minari.
            algorithm, description: what stands in it.
            share, quota: see `EpisodeRecorder`.
            goes_on: add to one that is there.

        Raises:
            UsageError: the name cannot be used, or there are several tasks.
            MissingExtraError: Minari is not installed.
        """
        if slots.spec.num_tasks > 1:
            raise UsageError(f"expected one task, got {slots.spec.num_tasks}: a data set has the spaces of one")
        with naming_extras():
            from seedbed.server.recording.minari_writer import About, MinariWriter

        about = About(algorithm=algorithm, description=description)
        self._writer = MinariWriter(dataset_id, slots.spec, about, goes_on=goes_on)
        self.dataset_id = dataset_id
        self.recorder = EpisodeRecorder(slots, self._writer.put, share=share, quota=quota)

    def close(self) -> str:
        """Writes what is left, when nothing passes any more.

        Returns:
            A line for people.

        Raises:
            BrokenError: it could not be written.
        """
        self.recorder.close()
        self._writer.close()
        recorder, writer = self.recorder, self._writer
        line = f"recorded {count(writer.episodes, 'episode')}, {count(writer.steps, 'step')}, in {self.dataset_id}"
        line += f" ({writer.path})" if writer.episodes else ", which was not made"
        if recorder.cut:
            line += f"; {count(recorder.cut, 'episode')} cut and left out"
        if recorder.left_out:
            line += f"; {count(recorder.left_out, 'whole episode')} left out, there was no room"
        return line

    def finish(self) -> None:
        """Closes it and says so; what cannot be written costs a warning."""
        try:
            logger.info("%s", self.close())
        except BrokenError as error:
            logger.warning("%s", error)

    def metrics(self) -> dict[str, float]:
        """Episodes so far."""
        recorder = self.recorder
        return {
            "episodes_recorded": recorder.whole,
            "episodes_recorded_cut": recorder.cut,
            "episodes_recorded_left_out": recorder.left_out,
        }


def make_recording(
    config: ServerConfig, spec: EnvironmentSpec, slots: SlotTable, run_name: str, rank: int
) -> Recording | None:
    """Of a training run; None unless it was asked for. Each of several learners has a data set of its own."""
    if not config.run.record_share:
        return None
    dataset_id = config.run.record_dataset or "seedbed/{}-v0".format(re.sub(r"[^\w-]+", "-", run_name))
    if rank > 0:
        dataset_id = re.sub(r"(-v\d+)?$", rf"-learner{rank}\1", dataset_id, count=1)
    return Recording(
        slots,
        dataset_id,
        algorithm=config.algorithm,
        description=f"{spec.environment}: {config.run.record_share:g} of the episodes of a training",
        share=config.run.record_share,
        goes_on=True,
    )
