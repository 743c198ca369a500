"""Where a run stands: all that a checkpoint holds, and whether a stop condition is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from seedbed.common.counting import count
from seedbed.common.errors import ConfigError
from seedbed.server.options.run import RunConfig
from seedbed.server.run.checkpoint import Checkpoint
from seedbed.server.run.cohorts import CohortRecord
from seedbed.server.run.state_tree import flatten_state, unflatten_state
from seedbed.server.run.task_facts import TaskFacts


def _no_episodes() -> dict[str, Any]:
    return {"num_episodes": 0, "episodes": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Counters since the beginning of the run, over all its starts.

    Open unrolls and the learner's queue are not part of it: what they hold at a stop is dropped, and counted.

    Attributes:
        agent_steps: answered timesteps that were not LAST.
        consumed: transitions in all train batches so far; the learning rate decays with them.
        updates: optimiser steps.
        wall_s: time since the first answered step of each start.
        episodes: the newest ones, see `EpisodeWindow.get_state`.
        cohorts: what the run is judged by, see `CohortRecord.to_json`; an open cohort is no part of it.
        tasks: of each of several, by its name: agent steps, newest episodes and cohorts; empty where there is one.
        finished: the stop condition that ended the run, if one did.
        random: state of the generator that actions are drawn with.
        random_device: kind of device that it is of; those of another kind cannot go on with it.
        learner: see `Learner.get_state`.
    """

    agent_steps: int = 0
    consumed: int = 0
    updates: int = 0
    wall_s: float = 0.0
    episodes: Mapping[str, Any] = field(default_factory=_no_episodes)
    cohorts: Mapping[str, Any] = field(default_factory=lambda: CohortRecord().to_json())
    tasks: Mapping[str, Any] = field(default_factory=dict)
    finished: str | None = None
    random: Tensor | None = None
    random_device: str = "cpu"
    learner: Mapping[str, Any] | None = None

    def stop_condition(
        self, run: RunConfig, tasks: Sequence[TaskFacts] = (), target_score: float | None = None
    ) -> str | None:
        """The first stop condition that is reached, as a phrase, or None.

        Args:
            run: has those of every run.
            tasks: several: all that have a target must reach theirs.
            target_score: that a joint cohort of theirs must reach.
        """
        if self.agent_steps >= run.max_steps:
            return f"reached {run.max_steps:,} agent steps"
        if run.max_seconds is not None and self.wall_s >= run.max_seconds:
            return f"reached {run.max_seconds:g} s"
        newest = self.cohort_record.newest
        if tasks:
            if target_score is not None and newest is not None and newest.score >= target_score:
                return f"reached a mean return of {newest.mean:.3f} of people's over a cohort of every task"
            return self._targets_reached(tasks)
        if run.target_return is not None and newest is not None and newest.score >= run.target_return:
            return f"reached a mean return of {newest.mean:.2f} over a cohort of {newest.episodes} episodes"
        return None

    def _targets_reached(self, tasks: Sequence[TaskFacts]) -> str | None:
        """Each task by its own newest cohort: that of one whose environments are gone stands."""
        targets = {task.name: task.target for task in tasks if task.target is not None}
        if not targets or not targets.keys() <= self.tasks.keys():
            return None
        newest = {name: CohortRecord.from_json(self.tasks[name]["cohorts"]).newest for name in targets}
        if any(one is None or one.score < targets[name] for name, one in newest.items()):
            return None
        returns = ", ".join(f"{name} {one.mean:.2f}" for name, one in newest.items() if one is not None)
        return f"reached the return of every task with a target ({returns})"

    @property
    def cohort_record(self) -> CohortRecord:
        """The cohorts that were judged."""
        return CohortRecord.from_json(self.cohorts)

    @property
    def has_begun(self) -> bool:
        """Whether anything was done yet that is worth keeping."""
        return self.agent_steps > 0 or self.updates > 0

    def describe(self) -> str:
        """For people."""
        return (
            f"{count(self.agent_steps, 'agent step')}, {count(self.updates, 'update')}, {self.wall_s / 60:.1f} minutes"
        )

    def to_checkpoint(self) -> Checkpoint:
        """As it goes to disk."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        tensors, structure = flatten_state("", values)
        return Checkpoint(agent_steps=self.agent_steps, tensors=tensors, metadata={"state": structure})

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> RunState:
        """The inverse of `to_checkpoint`.

        Raises:
            ConfigError: it holds something else.
        """
        try:
            state = cls(**unflatten_state(checkpoint.tensors, checkpoint.metadata["state"]))
            CohortRecord.from_json(state.cohorts)
            for task in state.tasks.values():
                CohortRecord.from_json(task["cohorts"])
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ConfigError(
                f"expected where a run stands in its checkpoint, got something else ({error!r})"
            ) from None
        return state
