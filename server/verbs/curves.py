"""Learning curves out of the files of runs, of all their tasks together or of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import ConfigError
from seedbed.server.monitoring.episodes import read_episodes
from seedbed.server.monitoring.metrics import read_metrics
from seedbed.server.options.tasks import cleaned
from seedbed.server.run.directory import CHECKPOINTS_FOLDER, METRICS_FILE, read_run_file

_MOST_DOTS = 5000
_RETURNS = {
    "episodes": ("episode_return_mean", "episode"),
    "cohorts": ("cohort_return_mean", "cohort"),
    "scores": ("human_normalised_capped_mean", "episode of every task"),
}
_OF_TASKS = {"episodes": "return_mean", "cohorts": "cohort_return_mean", "scores": "human_normalised"}


@dataclass(frozen=True, slots=True)
class Curve:
    """One run.

    Attributes:
        label: names the group it belongs to.
        agent_steps, minutes, returns: float64 `[P]`, P log intervals with at least one episode so far.
        best: agent steps, minutes and return of the best checkpoint's cohort; None: there is none.
        task: of several the only one that it is of.
        episodes: float64 `[3, E]`, agent steps, minutes and return of single episodes that count; empty if not asked.
    """

    label: str
    agent_steps: NDArray[np.float64]
    minutes: NDArray[np.float64]
    returns: NDArray[np.float64]
    best: tuple[float, float, float] | None = None
    episodes: NDArray[np.float64] = field(default_factory=lambda: np.empty((3, 0)))
    task: str | None = None


class NothingToDraw(ConfigError):
    """A run in which nothing has ended yet."""


def tasks_of(run_dir: Path, wanted: str | None) -> list[str | None]:
    """The tasks of a run that get a curve each; None stands for all of it.

    Raises:
        ConfigError: it has no such task.
    """
    if wanted is None:
        return [None]
    keys = (key.split("/") for line in read_metrics(run_dir)[-1:] for key in line if key.startswith("task/"))
    known = list(dict.fromkeys(key[1] for key in keys))
    names = known if wanted == "all" else _split(wanted, known)
    if not known or (missing := [name for name in names if name not in known]):
        there = f"tasks out of {', '.join(known)}" if known else "a run of several tasks"
        raise ConfigError(f"--task {wanted}: expected {there}, got {run_dir if not known else ', '.join(missing)}")
    return list(names)


def _split(wanted: str, known: Sequence[str]) -> list[str]:
    """Names with commas between, some of which have commas themselves, as "Catch,mirrored=1" has."""
    parts, names = wanted.split(","), []
    while parts:
        longest = next((n for n in range(len(parts), 1, -1) if cleaned(",".join(parts[:n])) in known), 1)
        names.append(cleaned(",".join(parts[:longest])))
        parts = parts[longest:]
    return names


def read_curve(run_dir: Path, group: str, smooth: int, returns_of: str = "episodes", task: str | None = None) -> Curve:
    """Reads one run.

    Args:
        run_dir: its folder.
        group: see `PlotOptions.group`.
        smooth: see `PlotOptions.smooth`.
        returns_of: see `PlotOptions.returns`.
        task: of several the only one that is read.

    Raises:
        ConfigError: it has no metrics.
        NothingToDraw: no episode has ended yet.
    """
    key, what = _RETURNS[returns_of]
    if task is not None:
        key, what = f"task/{task}/{_OF_TASKS[returns_of]}", f"episode of {task}"
    lines = [line for line in read_metrics(run_dir) if line.get(key) is not None]
    if not lines:
        raise NothingToDraw(f"expected at least one finished {what} in {run_dir / METRICS_FILE}, got none")
    agent_steps, wall_s, returns = (
        np.array([line[name] for line in lines], np.float64) for name in ("agent_steps", "wall_s", key)
    )
    label, minutes = _label(run_dir, group), wall_s / 60
    if task is not None:
        return Curve(f"{label} {task}", agent_steps, minutes, smoothed(returns, smooth), task=task)
    return Curve(label, agent_steps, minutes, smoothed(returns, smooth), _best(run_dir, agent_steps, minutes))


def _best(
    run_dir: Path, agent_steps: NDArray[np.float64], minutes: NDArray[np.float64]
) -> tuple[float, float, float] | None:
    """Where the best checkpoint lies, as `seedbed eval --best` finds it."""
    from seedbed.server.run.checkpoint import find_best  # brings torch

    found = find_best(run_dir / CHECKPOINTS_FOLDER)
    if found is None:
        return None
    folder, mean = found
    steps = float(folder.name.rpartition("-")[2])
    return steps, float(np.interp(steps, agent_steps, minutes)), mean


def dots_of(run_dir: Path, task: str | None = None) -> NDArray[np.float64]:
    """`[3, E]`, the episodes that count, of a single task if one is named; of very many every second, third ..."""
    rows = [
        (entry["agent_steps"], entry["wall_s"] / 60, entry["return"])
        for entry in read_episodes(run_dir)
        if entry["counts"] and (task is None or entry["task"] == task)
    ]
    return np.array(rows[:: max(1, len(rows) // _MOST_DOTS)], np.float64).reshape(-1, 3).T


def smoothed(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Mean over each point and the `width - 1` before it, or as many as there are."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def _label(run_dir: Path, group: str) -> str:
    folder = run_dir.resolve()
    if group == "run":
        return folder.name
    if group == "parent":
        return folder.parent.name
    return read_run_file(run_dir / "config.json").spec.environment
