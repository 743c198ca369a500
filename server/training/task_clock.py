"""Clocks of the tasks of a run: what was done in each of them, and how well its episodes went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.timestep import EpisodeEnd
from seedbed.server.monitoring.metrics import EpisodeWindow
from seedbed.server.run.cohorts import CohortRecord
from seedbed.server.run.joint_cohorts import JointCohorts
from seedbed.server.run.task_facts import TaskFacts


class TaskClock:
    """Told by the inference thread, read by all.

    Attributes:
        facts: of the tasks, in their order.
        cohorts: of each, and joint ones.
    """

    def __init__(
        self,
        facts: Sequence[TaskFacts],
        counts: Callable[[int], bool],
        record: CohortRecord,
        tasks: Mapping[str, Any],
        steps: NDArray[np.int64],
    ) -> None:
        """Goes on from where the run stands.

        Args:
            facts: of the tasks.
            counts: whether the environment with a stable index counts.
            record: joint cohorts of the run so far.
            tasks: see `RunState.tasks`.
            steps: `[K]`, agent steps of this start, counted by inference.
        """
        self.facts = tuple(facts)
        records = {name: one["cohorts"] for name, one in tasks.items()}
        self.cohorts = JointCohorts(facts, counts, record, records)
        self._windows = [
            EpisodeWindow.from_state(tasks[task.name]["episodes"]) if task.name in tasks else EpisodeWindow()
            for task in facts
        ]
        self._before = [tasks[task.name]["agent_steps"] if task.name in tasks else 0 for task in facts]
        self._steps = steps
        self._task_of: dict[int, int] = {}

    def joined(self, indices: Sequence[int], tasks: Sequence[int]) -> None:
        """Environments are there, each of a task."""
        self._task_of.update(zip(indices, tasks, strict=True))

    def left(self, indices: Sequence[int]) -> None:
        """These are gone."""
        for index in indices:
            self._task_of.pop(index, None)

    def name_of(self, index: int) -> str | None:
        """The name of the task that an environment plays."""
        task = self._task_of.get(index)
        return None if task is None else self.facts[task].name

    def ended(self, index: int, end: EpisodeEnd, *, elsewhere: bool = False) -> None:
        """An episode that counts has ended; `elsewhere`: at another replica, whose steps are only known by these."""
        if (task := self._task_of.get(index)) is not None:
            self._windows[task].add(end.episode_return, end.steps, end.frames)
            self._before[task] += end.steps if elsewhere else 0

    @property
    def present(self) -> Mapping[str, int]:
        """Environments of each task that count and are there."""
        return {task.name: member.num_present for task, member in zip(self.facts, self.cohorts.members, strict=True)}

    def now(self) -> dict[str, Any]:
        """Where each task stands, as a checkpoint holds it."""
        parts = zip(self.facts, self._before, self._steps.tolist(), self._windows, self.cohorts.members, strict=True)
        return {
            task.name: {
                "agent_steps": before + steps,
                "episodes": window.get_state(),
                "cohorts": member.record.to_json(),
            }
            for task, before, steps, window, member in parts
        }
