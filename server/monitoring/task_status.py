"""Status of the tasks of a run that learns several: rows for people, numbers for metrics and other processes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seedbed.server.monitoring.metrics import EpisodeWindow
from seedbed.server.run.cohorts import CohortRecord
from seedbed.server.run.human_scores import Normalised
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import TaskFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    """How one task stands. None: not known yet.

    Attributes:
        facts: about it.
        environments: that count and are there.
        agent_steps, frames: since the run's beginning.
        share: of all frames of the run.
        episodes: that have ended and count.
        return_mean: of the newest 100 of them.
        cohorts: what it is judged by.
    """

    facts: TaskFacts
    environments: int
    agent_steps: int
    frames: int
    share: float | None
    episodes: int
    return_mean: float | None
    cohorts: CohortRecord

    @property
    def score(self) -> float | None:
        """Human-normalised, of the newest 100 episodes."""
        return self.facts.score(self.return_mean)

    def numbers(self) -> dict[str, float | None]:
        """By the name of what it is."""
        newest = self.cohorts.newest
        return {
            "agent_steps": self.agent_steps,
            "frames": self.frames,
            "share": self.share,
            "environments": self.environments,
            "episodes": self.episodes,
            "return_mean": self.return_mean,
            "cohort_return_mean": None if newest is None else newest.mean,
            "cohorts": self.cohorts.judged,
            "cohorts_void": self.cohorts.void,
            **({} if self.facts.scale is None else {"human_normalised": self.score}),
        }


def task_statuses(facts: Sequence[TaskFacts], state: RunState, present: Mapping[str, int]) -> list[TaskStatus]:
    """How each task stands.

    Args:
        facts: of the tasks.
        state: where the run stands.
        present: environments of each that count and are there.
    """
    steps = [int(state.tasks[task.name]["agent_steps"]) if task.name in state.tasks else 0 for task in facts]
    frames = [count * task.frames_per_step for count, task in zip(steps, facts, strict=True)]
    statuses = []
    for task, count, shown in zip(facts, steps, frames, strict=True):
        own = state.tasks.get(task.name)
        window = EpisodeWindow() if own is None else EpisodeWindow.from_state(own["episodes"])
        statuses.append(
            TaskStatus(
                facts=task,
                environments=present.get(task.name, 0),
                agent_steps=count,
                frames=shown,
                share=shown / sum(frames) if sum(frames) else None,
                episodes=window.num_episodes,
                return_mean=window.return_mean,
                cohorts=CohortRecord() if own is None else CohortRecord.from_json(own["cohorts"]),
            )
        )
    return statuses


def task_metrics(statuses: Sequence[TaskStatus]) -> dict[str, float | None]:
    """Numbers of all tasks, "task/NAME/NUMBER", and the human-normalised scores of those that have one together."""
    if not statuses:
        return {}
    metrics = {f"task/{one.facts.name}/{name}": value for one in statuses for name, value in one.numbers().items()}
    if any(one.facts.scale is not None for one in statuses):
        together = normalised_together(statuses)
        metrics["human_normalised_mean"] = None if together is None else together.mean
        metrics["human_normalised_median"] = None if together is None else together.median
        metrics["human_normalised_capped_mean"] = None if together is None else together.capped_mean
    return metrics


def normalised_together(statuses: Sequence[TaskStatus]) -> Normalised | None:
    """Over the tasks that have a scale; None before each of them has had an episode."""
    scores = [one.score for one in statuses if one.facts.scale is not None]
    known = [score for score in scores if score is not None]
    return Normalised.of(known) if known and len(known) == len(scores) else None


def shared_numbers(statuses: Sequence[TaskStatus]) -> dict[str, float]:
    """The same for other processes, "NUMBER:NAME"; NaN for what is not known yet."""
    return {
        f"{name}:{one.facts.name}": math.nan if value is None else float(value)
        for one in statuses
        for name, value in one.numbers().items()
        if name in SHARED
    }


SHARED = ("agent_steps", "frames", "environments", "return_mean", "cohort_return_mean", "human_normalised")
"""Numbers of each task that other processes show."""


_HEADINGS = ("task", "envs", "steps", "share", "return", "cohort", "target", "of people")
_MOST_ROWS = 16


def task_rows(statuses: Sequence[TaskStatus]) -> list[tuple[str, ...]]:
    """A table for people, its headings first, its columns padded; of very many tasks those that do worst."""
    if not statuses:
        return []
    rows = [_row(one) for one in _worst(statuses)]
    if len(rows) < len(statuses):
        rows.append((f"and {len(statuses) - len(rows)} more", *[""] * (len(_HEADINGS) - 1)))
    together = normalised_together(statuses)
    if together is not None:
        summary = f"mean {together.mean:.1%}, median {together.median:.1%}, capped mean {together.capped_mean:.1%}"
        rows.append(("all", *[""] * (len(_HEADINGS) - 2), summary))
    rows.insert(0, _HEADINGS)
    kept = [place for place in range(len(_HEADINGS)) if any(row[place] not in ("", "-") for row in rows[1:])]
    widths = [max(len(row[place]) for row in rows) for place in kept]
    return [tuple(row[place].ljust(width) for place, width in zip(kept, widths, strict=True)) for row in rows]


def _worst(statuses: Sequence[TaskStatus]) -> Sequence[TaskStatus]:
    """All that there is room for, in their order; of more those without environments, then the lowest scores."""
    if len(statuses) <= _MOST_ROWS:
        return statuses

    def rank(one: TaskStatus) -> tuple[bool, float]:
        return one.environments > 0, -math.inf if one.score is None else one.score

    return sorted(statuses, key=rank)[: _MOST_ROWS - 1]


def _row(one: TaskStatus) -> tuple[str, ...]:
    cohorts, target = one.cohorts, one.facts.target
    judged = "-" if cohorts.newest is None else f"{cohorts.newest.mean:.2f}"
    void = f" ({cohorts.void} void)" if cohorts.void else ""
    reached = target is not None and cohorts.newest is not None and cohorts.newest.score >= target
    return (
        one.facts.name,
        str(one.environments) if one.environments else "0: nobody plays it",
        f"{one.agent_steps:,}",
        "-" if one.share is None else f"{one.share:.0%}",
        "-" if one.return_mean is None else f"{one.return_mean:.2f}",
        judged + void,
        "-" if target is None else f"{target:g}{' reached' if reached else ''}",
        "-" if one.score is None else f"{one.score:.1%}",
    )
