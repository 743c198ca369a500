"""Recorded data: what passes a server, or an evaluation, as a Minari data set."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from seedbed.common.cli import naming_extras
from seedbed.common.counting import count
from seedbed.common.errors import BrokenError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.options.config import ServerConfig
from seedbed.server.recording.episodes import Episode, EpisodeRecorder, Quota
from seedbed.server.recording.own_rows import in_own_rows
from seedbed.server.shared.slots import SlotTable

logger = logging.getLogger(__name__)

_NOT_IN_NAMES = re.compile(r"[^\w-]+")


class Recording:
    """A recorder, and the data sets that it fills: one, or one for each task.

    Attributes:
        recorder: to be told what passes.
        dataset_id: of the data set; of several tasks without their names.
    """

    def __init__(
        self,
        slots: SlotTable,
        dataset_id: str,
        *,
        algorithm: str,
        description: str,
        tasks: Mapping[int, str] | None = None,
        share: float = 1.0,
        quota: Quota | None = None,
        goes_on: bool = False,
    ) -> None:
        """Opens the data sets.

        Args:
            slots: what passes.
            dataset_id: of Minari.
            algorithm, description: what stands in it.
            tasks: of a run of several, the numbers of those that are recorded, and what their data sets are called
                besides; "" is nothing.
            share, quota: see `EpisodeRecorder`.
            goes_on: add to one that is there.

        Raises:
            UsageError: the name cannot be used.
            MissingExtraError: Minari is not installed.
        """
        with naming_extras():
            from seedbed.server.recording.minari_writer import About, MinariWriter

        about = About(algorithm=algorithm, description=description)
        self._rows = slots.spec
        self._specs = slots.spec.tasks or (slots.spec,)
        self._writers = {
            number: MinariWriter(named(dataset_id, name), self._specs[number], about, goes_on=goes_on)
            for number, name in (tasks or {0: ""}).items()
        }
        self.dataset_id = dataset_id
        self.recorder = EpisodeRecorder(slots, self._put, share=share, quota=quota)

    def close(self) -> str:
        """Writes what is left, when nothing passes any more.

        Returns:
            A line for people.

        Raises:
            BrokenError: it could not be written.
        """
        self.recorder.close()
        for writer in self._writers.values():
            writer.close()
        recorder = self.recorder
        lines = [
            f"recorded {count(writer.episodes, 'episode')}, {count(writer.steps, 'step')}, in {writer.dataset_id}"
            + (f" ({writer.path})" if writer.episodes else ", which was not made")
            for writer in self._writers.values()
        ]
        if recorder.cut:
            lines.append(f"{count(recorder.cut, 'episode')} cut and left out")
        if recorder.left_out:
            lines.append(f"{count(recorder.left_out, 'whole episode')} left out, there was no room")
        return "; ".join(lines)

    def _put(self, episode: Episode) -> bool:
        """Gives an episode to its task's data set, with the rows that the task has by itself."""
        own = self._specs[episode.task]
        return self._writers[episode.task].put(episode if own is self._rows else in_own_rows(episode, own, self._rows))

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
    dataset_id = config.run.record_dataset or f"seedbed/{_NOT_IN_NAMES.sub('-', run_name)}-v0"
    if rank > 0:
        dataset_id = named(dataset_id, f"learner{rank}")
    return Recording(
        slots,
        dataset_id,
        algorithm=config.algorithm,
        description=f"{spec.environment}: {config.run.record_share:g} of the episodes of a training",
        tasks=dict(enumerate(config.tasks.names)) if spec.tasks else None,
        share=config.run.record_share,
        goes_on=True,
    )


def named(dataset_id: str, name: str) -> str:
    """The id with a word more, before its version."""
    word = _NOT_IN_NAMES.sub("-", name).strip("-")
    return re.sub(r"(-v\d+)?$", rf"-{word}\1", dataset_id, count=1) if word else dataset_id
