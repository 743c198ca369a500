"""Cohorts of a run of several tasks: one after another of each task, and joint ones by which the run is judged.

A joint cohort is judged when every task has had a cohort since the one before. Its return is the mean over tasks of
their human-normalised scores, each at most 1, or of their returns where nobody has measured people. A task without
environments has its open cohort void, and there is no joint one until it is back: a mean over those that are left would
be of something else.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from seedbed.server.run.cohorts import SIZE, CohortRecord, Cohorts, Verdict
from seedbed.server.run.task_facts import TaskFacts, have_scales


class JointCohorts:
    """Judges a run of several tasks; see `Cohorts`, whose place it takes.

    Attributes:
        record: the joint cohorts; what is void of it is what was void of any task.
        members: the cohorts of each task.
    """

    def __init__(
        self,
        facts: Sequence[TaskFacts],
        counts: Callable[[int], bool],
        record: CohortRecord | None = None,
        records: Mapping[str, Any] | None = None,
        size: int = SIZE,
    ) -> None:
        """Opens the first ones.

        Args:
            facts: of the tasks.
            counts: whether the environment with a stable index counts.
            record: of the run so far.
            records: of each task, by its name, as `CohortRecord.to_json` has them.
            size: episodes of a task's cohort, at least.
        """
        self.record = record or CohortRecord()
        self._facts = tuple(facts)
        self._scaled = have_scales(facts)
        found = {name: CohortRecord.from_json(one) for name, one in (records or {}).items()}
        self.members = tuple(Cohorts(counts, found.get(task.name), size) for task in facts)
        self._seen = [member.record.judged for member in self.members]
        self._void = sum(member.record.void for member in self.members)
        self._task_of: dict[int, int] = {}

    @property
    def progress(self) -> tuple[int, int]:
        """Episodes of the open cohorts that have ended, and their size."""
        done, sizes = zip(*(member.progress for member in self.members), strict=True)
        return sum(done), sum(sizes)

    @property
    def num_present(self) -> int:
        """Environments that count and are there."""
        return sum(member.num_present for member in self.members)

    def joined(self, indices: Sequence[int], tasks: Sequence[int]) -> None:
        """Environments are there, each of a task, and begin their first episodes."""
        self._task_of.update(zip(indices, tasks, strict=True))
        for task in sorted(set(tasks)):
            self.members[task].joined([index for index, its in zip(indices, tasks, strict=True) if its == task])
        self._look()

    def left(self, indices: Iterable[int]) -> None:
        """Environments are gone, and with them the episodes they were in."""
        gone = [(index, self._task_of.pop(index)) for index in indices if index in self._task_of]
        for task in sorted({task for _, task in gone}):
            self.members[task].left([index for index, its in gone if its == task])
        self._look()

    def lost(self, index: int) -> None:
        """The episode of an environment was cut for a reason that is not its own; it begins another."""
        if (task := self._task_of.get(index)) is not None:
            self.members[task].lost(index)
            self._look()

    def ended(self, index: int, episode_return: float) -> None:
        """An episode has ended."""
        if (task := self._task_of.get(index)) is not None:
            self.members[task].ended(index, episode_return)
            self._look()

    def stop(self) -> None:
        """Judges nothing any more."""
        for member in self.members:
            member.stop()

    def _look(self) -> None:
        """Judges the joint cohort if every task has had one since the last."""
        void = sum(member.record.void for member in self.members)
        if void != self._void:
            self.record = replace(self.record, void=self.record.void + void - self._void)
            self._void = void
        judged = [member.record.judged for member in self.members]
        if all(now > before for now, before in zip(judged, self._seen, strict=True)):
            self._seen = judged
            verdicts = [member.record.newest for member in self.members]
            self.record = self.record.after(self._judge([verdict for verdict in verdicts if verdict is not None]))

    def _judge(self, verdicts: Sequence[Verdict]) -> Verdict:
        """The mean over tasks, in units of what they are measured by."""
        units = [1.0 if task.scale is None else task.scale[1] - task.scale[0] for task in self._facts]
        errors = [
            verdict.standard_error / (unit if self._scaled else 1.0)
            for verdict, unit in zip(verdicts, units, strict=True)
        ]
        return Verdict(
            mean=statistics.fmean(map(self._value, self._facts, [verdict.mean for verdict in verdicts])),
            median=statistics.fmean(map(self._value, self._facts, [verdict.median for verdict in verdicts])),
            standard_error=math.sqrt(math.fsum(error**2 for error in errors)) / len(errors),
            episodes=sum(verdict.episodes for verdict in verdicts),
        )

    def _value(self, task: TaskFacts, value: float) -> float:
        if not self._scaled:
            return value
        score = task.score(value)
        assert score is not None
        return min(1.0, score)
