"""Evaluation of a run of several tasks: which are played, by whom, and their scores, each and together."""

from __future__ import annotations

import math
import os
import statistics
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from seedbed.common.counting import count
from seedbed.common.errors import UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import EpisodeEnd
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.tasks import find_task
from seedbed.server.run.human_scores import Normalised
from seedbed.server.run.task_facts import facts_of
from seedbed.server.training.local_clients import ClientShare
from seedbed.server.verbs.episode_collection import EpisodeCollection
from seedbed.server.verbs.scores import summarise

_MOST_ENVIRONMENTS = 64
"""Of all tasks together: a suite has dozens."""


def played_tasks(config: ServerConfig, spec: EnvironmentSpec, name: str | None) -> list[int]:
    """The numbers of the tasks that are played, all unless one is named; empty: the run has one.

    Raises:
        UsageError: there is no such task.
    """
    if spec.tasks:
        names = [own.environment for own in spec.tasks]
        return list(range(spec.num_tasks)) if name is None else [find_task(name, config.tasks.names, names)]
    if name not in (None, spec.environment):
        raise UsageError(f"expected no --task, the run has one, {spec.environment}; got {name}")
    return []


def environments_of_each(num_envs: int, num_tasks: int) -> int:
    """How many environments play each task."""
    return max(1, min(num_envs, _MOST_ENVIRONMENTS // num_tasks))


def shares_of(config: ServerConfig, played: Sequence[int], num_envs: int) -> list[ClientShare]:
    """Client processes: the first of the played tasks has the first `num_envs` indices, and so on."""
    shares = []
    clients = max(1, min(num_envs, (os.cpu_count() or 1) // len(played)))
    for place, task in enumerate(played):
        environment = config.tasks.tasks[task].environment(config.environment)
        indices = range(place * num_envs, (place + 1) * num_envs)
        shares += [ClientShare(task, environment, indices[client::clients]) for client in range(clients)]
    return shares


class TaskEpisodes:
    """Episodes of several tasks, as many of each: see `EpisodeCollection`, whose place it takes.

    Attributes:
        complete: all that were expected are there.
        members: those of each task.
    """

    def __init__(self, num_tasks: int, num_envs: int, episodes: int) -> None:
        """Of each task `episodes` by `num_envs` environments."""
        self.complete = threading.Event()
        self.members = [EpisodeCollection(num_envs, episodes) for _ in range(num_tasks)]
        self.num_expected = num_tasks * episodes
        self._num_envs = num_envs

    def add(self, environment_index: int, end: EpisodeEnd, client: str = "") -> None:
        """Keeps an episode if its environment still owes one."""
        task, place = divmod(environment_index, self._num_envs)
        if task < len(self.members):
            self.members[task].add(place, end, client)
        if all(member.complete.is_set() for member in self.members):
            self.complete.set()

    @property
    def num_kept(self) -> int:
        """Episodes so far."""
        return sum(member.num_kept for member in self.members)

    def returns_of(self, environment_index: int) -> list[float]:
        """Those of one environment, in order."""
        task, place = divmod(environment_index, self._num_envs)
        return self.members[task].returns_of(place)

    @property
    def returns(self) -> list[float]:
        """All that were kept."""
        return [value for member in self.members for value in member.returns]


def scores_of_tasks(
    config: ServerConfig, spec: EnvironmentSpec, played: Sequence[int], episodes: TaskEpisodes
) -> dict[str, Any]:
    """Scores as JSON data: of each task, then of all together: means and medians over tasks, not over episodes."""
    facts = facts_of(config, spec)
    rows = []
    for task, member in zip(played, episodes.members, strict=True):
        row: dict[str, Any] = {"task": facts[task].name, "environment": facts[task].environment}
        if returns := member.returns:
            summary = summarise(returns)
            row |= {
                "episodes": summary.episodes,
                "mean": summary.mean,
                "standard_error": summary.standard_error,
                "median": summary.median,
                "human_normalised": facts[task].score(summary.mean),
            }
        rows.append(row | {"episodes_missing": member.num_expected - member.num_kept, "returns": member.returns})
    known = [row for row in rows if "mean" in row]
    means = [row["mean"] for row in known]
    errors = [row["standard_error"] or 0.0 for row in known]
    scores = [row["human_normalised"] for row in known if row["human_normalised"] is not None]
    together = Normalised.of(scores) if scores and len(scores) == len(rows) else None
    return {
        "mean": statistics.fmean(means),
        "standard_error": math.sqrt(math.fsum(error**2 for error in errors)) / len(errors),
        "median": statistics.median(means),
        "human_normalised": None if together is None else together.capped_mean,
        "human_normalised_mean": None if together is None else together.mean,
        "human_normalised_median": None if together is None else together.median,
        "tasks": rows,
    }


def describe_tasks(result: Mapping[str, Any]) -> list[str]:
    """Lines for people."""
    rows = [("task", "episodes", "mean", "median", "of people")]
    for row in result["tasks"]:
        score = row.get("human_normalised")
        rows.append(
            (
                row["task"],
                f"{row.get('episodes', 0)}",
                "-" if "mean" not in row else f"{row['mean']:.2f} +- {row['standard_error'] or 0:.2f}",
                "-" if "median" not in row else f"{row['median']:.2f}",
                "" if score is None else f"{score:.1%}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if result["human_normalised"] is None:
        return [*lines, f"mean over {count(len(result['tasks']), 'task')} {result['mean']:.2f}"]
    return [
        *lines,
        f"human-normalised: mean {result['human_normalised_mean']:.1%}, median "
        f"{result['human_normalised_median']:.1%}, capped mean {result['human_normalised']:.1%}",
    ]
