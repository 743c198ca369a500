"""Log of a run, an interval at a time: numbers to `metrics.jsonl` and trackers, a status to a person."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.monitoring.learning_signs import LearningSigns
from seedbed.server.monitoring.metrics import EpisodeWindow, MetricsWriter, tagged
from seedbed.server.monitoring.next_commands import next_commands, verb_of
from seedbed.server.monitoring.progress import Progress, Status
from seedbed.server.monitoring.replica_figures import ReplicaFigures, Reported, metrics_of
from seedbed.server.monitoring.task_status import shared_numbers, task_metrics, task_statuses
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import TaskFacts
from seedbed.server.shared.spread import Spread
from seedbed.server.shared.vitals import VitalsTable
from seedbed.server.trackers.tracking import Tracking

logger = logging.getLogger(__name__)

_LEARNT = ("policy_lag_mean", "policy_lag_max", "loss")
"""Metrics of the learner that every line has, and other processes show."""


class IntervalLog:
    """Turns counters into rates and hands them on."""

    def __init__(
        self,
        config: ServerConfig,
        spec: EnvironmentSpec,
        writer: MetricsWriter,
        tracking: Tracking,
        progress: Progress,
        signs: LearningSigns | None,
        waiting_for: str | None,
        tasks: Sequence[TaskFacts] = (),
        learners: int = 1,
    ) -> None:
        """Starts counting.

        Args:
            config: gives the stop conditions, for the time that is left, and the run's directory.
            spec: gives frames per agent step.
            writer, tracking, progress: where it goes.
            signs: say when a run does not learn; None: nobody does.
            waiting_for: where clients that come from elsewhere connect to, for people; None: they are on this machine.
            learners: of the run, where they were started together on this machine.
            tasks: several, each of which has numbers of its own.
        """
        self._config = config
        self._run, self._fleet = config.run, config.fleet
        self._spec = spec
        self._writer = writer
        self._tracking = tracking
        self._progress = progress
        self._signs = signs
        self._waiting_for = waiting_for
        self._verb = verb_of(local=waiting_for is None, learners=learners)
        self._tasks = tasks
        self._last_s = time.monotonic()
        self._last_steps: int | None = None
        self._before: Mapping[str, float] = {}
        self._replicas = ReplicaFigures()

    def log(
        self,
        state: RunState,
        vitals: VitalsTable,
        learned: Mapping[str, float],
        cohort_progress: tuple[int, int] = (0, 100),
        *,
        scored: bool = True,
        spreads: Mapping[str, Spread] | None = None,
        present: Mapping[str, int] | None = None,
        replicas: Sequence[Reported] = (),
    ) -> None:
        """Reports the time since the last call. Episodes are those of `state`: a run's last line says why it ended.

        Args:
            state: where the run stands. Before its first step there is nothing to write down.
            vitals: of all processes.
            learned: metrics of learner, source and account.
            cohort_progress: see `Cohorts.progress`.
            scored: one of the environments whose episodes count is there.
            spreads: of what updates saw, by name.
            present: environments of each of several tasks that count and are there.
            replicas: what each of several told of itself.
        """
        now_s = time.monotonic()
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        episodes = EpisodeWindow.from_state(state.episodes)
        statuses = task_statuses(self._tasks, state, present or {})
        vitals.tasks.write(shared_numbers(statuses))
        stages, common = self._stages(vitals, elapsed_s), self._progress_of(state, episodes, elapsed_s)
        figures = self._replicas.of(replicas, state.updates, elapsed_s)
        environments = int(sum(one.live_rows for one in replicas) if replicas else vitals.device["live_rows"])
        optional: dict[str, Any] = {name: learned.get(name) for name in _LEARNT}
        _publish(vitals, learned, episodes, state)
        if state.has_begun:
            used = {"slots_in_use": int(vitals.device["used_rows"])}
            of_several = {**task_metrics(statuses), **metrics_of(figures)}
            self._record(
                {**_judged(state, episodes), **used, **stages, **common, **optional, **learned, **of_several},
                spreads or {},
            )
        for remark in () if self._signs is None else self._signs.look(state, learned):
            logger.warning("%s", remark)
        self._progress.update(
            Status(
                elapsed_s=state.wall_s,
                environments=environments,
                cohorts=state.cohort_record,
                cohort_progress=cohort_progress,
                entropy=learned.get("entropy"),
                max_steps=self._run.max_steps,
                max_seconds=self._run.max_seconds,
                target_return=self._run.target_return,
                waiting_for=self._awaited(environments, scored),
                replicas=figures,
                tasks=statuses,
                **common,
                **optional,
            )
        )

    def _progress_of(self, state: RunState, episodes: EpisodeWindow, elapsed_s: float) -> dict[str, Any]:
        """What was done since the run's beginning, and how fast lately: for the line and for people."""
        last_steps = state.agent_steps if self._last_steps is None else self._last_steps
        self._last_steps = state.agent_steps
        frames = self._frames(state)
        per_step = frames / max(1, state.agent_steps) if self._tasks else self._spec.frames_per_step
        steps_per_s = (state.agent_steps - last_steps) / max(1e-9, elapsed_s)
        return {
            "agent_steps": state.agent_steps,
            "frames": frames,
            "updates": state.updates,
            "steps_per_s": steps_per_s,
            "frames_per_s": steps_per_s * per_step,
            "episodes": episodes.num_episodes,
            "episode_return_mean": episodes.return_mean,
        }

    def _frames(self, state: RunState) -> int:
        """Emulator frames so far; several tasks may have another number of them in a step each."""
        if not self._tasks:
            return state.agent_steps * self._spec.frames_per_step
        return sum(one.frames for one in task_statuses(self._tasks, state, {}))

    def _record(self, numbers: Mapping[str, Any], spreads: Mapping[str, Spread]) -> None:
        """Writes a line, and hands it to the trackers."""
        line = self._writer.write({**numbers, **_quantiles(spreads)})
        histograms = {f"histograms/{name}": spread for name, spread in spreads.items()}
        self._tracking.log(tagged(line), histograms, int(numbers["frames"]))

    def _awaited(self, num_rows: int, scored: bool) -> str | None:
        """What the run cannot do without, or its score cannot."""
        if not num_rows:
            return "local environments" if self._waiting_for is None else f"seedbed env --server {self._waiting_for}"
        if scored:
            return None
        greedy = self._fleet.greedy_environments
        return (
            f"a score: it is that of environments {greedy.start} to {greedy.stop - 1}, the last of --num-envs "
            f"{self._fleet.num_envs}, and none of them has joined"
        )

    def _stages(self, vitals: VitalsTable, elapsed_s: float) -> dict[str, float | None]:
        """Where the time since the last call went: what tells a slow run's reader which part to look at."""
        stages = {
            name: vitals.histogram(name) for name in ("wait", "inference", "batch_wait", "update", "back_pressure")
        }
        now = {"batches": vitals.total("batches"), "batch_rows": vitals.total("batch_rows")}
        now |= {f"{name}_s": stage.sum for name, stage in stages.items()}
        now |= {f"{name}_count": stage.count for name, stage in stages.items()}
        new = {name: value - self._before.get(name, 0) for name, value in now.items()}
        self._before = now

        def mean(total: str, count: str, scale: float = 1) -> float | None:
            return scale * new[total] / new[count] if new[count] else None

        return {
            "inference_batch_mean": mean("batch_rows", "batches"),
            "wait_ms_mean": mean("wait_s", "wait_count", 1000),
            "inference_ms_mean": mean("inference_s", "inference_count", 1000),
            "update_ms_mean": mean("update_s", "update_count", 1000),
            "learner_idle_share": min(1.0, new["batch_wait_s"] / max(1e-9, elapsed_s)),
            "back_pressure_share": min(1.0, new["back_pressure_s"] / max(1e-9, elapsed_s)),
        }

    def close(self, reached: str | None, state: RunState) -> None:
        """Ends both records.

        Args:
            reached: the stop condition that ended the run, if one did.
            state: where it stands.
        """
        self._end(reached or "stopped", state, failed=False)
        has_best = state.cohort_record.best is not None
        advice = (
            next_commands(self._config, self._verb, reached, steps=state.agent_steps, has_best=has_best)
            if state.has_begun
            else []
        )
        self._progress.close(f"{reached or 'stopped'}; {state.describe()}", advice)

    def fail(self, error: BaseException, state: RunState) -> None:
        """Ends both records of a run that an error ends: its last numbers are those that tell why.

        Trackers get no more than the kind of the error: its text may hold what is nobody else's business.
        """
        self._end(f"failed: {type(error).__name__}", state, failed=True)

    def _end(self, ended: str, state: RunState, *, failed: bool) -> None:
        self._writer.close()
        self._tracking.close(
            {"ended": ended, "failed": failed, "agent_steps": state.agent_steps, "updates": state.updates}
        )


def _quantiles(spreads: Mapping[str, Spread]) -> dict[str, float]:
    return {key: value for name, spread in spreads.items() for key, value in spread.named_quantiles(name).items()}


def _publish(vitals: VitalsTable, learned: Mapping[str, float], episodes: EpisodeWindow, state: RunState) -> None:
    """Shows the newest numbers to the other processes."""
    for name in _LEARNT:
        if name in learned:  # else the last interval had no update
            vitals.device[name] = learned[name]
    newest = state.cohort_record.newest
    vitals.device["episode_return_mean"] = math.nan if episodes.return_mean is None else episodes.return_mean
    vitals.device["cohort_return_mean"] = math.nan if newest is None else newest.mean


def _judged(state: RunState, episodes: EpisodeWindow) -> dict[str, Any]:
    """What the run is judged by, as numbers, and when; None before the first cohort."""
    record = state.cohort_record
    newest, best = record.newest, record.best
    return {
        "wall_s": state.wall_s,
        "episode_steps_mean": episodes.steps_mean,
        "cohorts": record.judged,
        "cohorts_void": record.void,
        "cohort_return_mean": None if newest is None else newest.mean,
        "cohort_return_median": None if newest is None else newest.median,
        "cohort_return_error": None if newest is None else newest.standard_error,
        "cohort_return_best": None if best is None else best.mean,
    }
