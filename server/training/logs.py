"""Logs of a run: its numbers, an interval at a time, with its trackers; its episodes, a line each."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from seedbed.common.logs import end_without_waiting
from seedbed.common.options import to_json
from seedbed.common.plugins import Trust
from seedbed.server.monitoring.episodes import EpisodeLog, EpisodeQueue
from seedbed.server.monitoring.interval_log import IntervalLog
from seedbed.server.monitoring.learning_signs import LearningSigns
from seedbed.server.monitoring.metrics import MetricsWriter
from seedbed.server.monitoring.progress import Progress
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.resuming import unexposed
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import facts_of
from seedbed.server.trackers.interface import TrackedRun
from seedbed.server.trackers.registry import find_trackers
from seedbed.server.trackers.tracking import Tracking
from seedbed.server.training.opening import OpenedRun


def make_interval_log(
    opened: OpenedRun,
    state: RunState,
    progress: Progress,
    trust: Trust,
    *,
    waiting_for: str | None,
    warns: bool = True,
    learners: int = 1,
) -> IntervalLog:
    """Opens `metrics.jsonl`; trackers begin with its first line.

    Args:
        opened: the run, whose directory is made.
        state: where it stands.
        progress: shows it to a person.
        trust: which trackers may be imported.
        waiting_for: where clients that come from elsewhere connect to; None: they are on this machine.
        learners: of the run, where they were started together on this machine.
        warns: whether it says when the run does not learn: of several replicas one does.
    """
    config, path = opened.config, opened.directory.path
    writer = MetricsWriter(path, resume_step=state.agent_steps, resume_wall_s=state.wall_s)
    tracked = TrackedRun(
        name=path.absolute().name,
        directory=path,
        config=_told(config),
        environment=opened.spec.environment,
        version=version("seedbed"),
        resume_step=writer.resume_step,
    )
    tracking = Tracking(find_trackers(config.monitoring.track, trust), tracked, on_hang=end_without_waiting)
    signs = LearningSigns(config.run, opened.spec) if warns else None
    facts = facts_of(config, opened.spec)
    return IntervalLog(config, opened.spec, writer, tracking, progress, signs, waiting_for, facts, learners)


def make_episode_log(opened: OpenedRun, state: RunState, queue: EpisodeQueue) -> EpisodeLog:
    """Opens `episodes.jsonl`, if it is wanted."""
    config = opened.config
    return EpisodeLog(
        opened.directory.path,
        queue,
        task=opened.spec.environment,
        greedy=config.fleet.greedy_environments,
        writes=config.run.episode_records,
        resume_step=state.agent_steps,
        resume_wall_s=state.wall_s,
    )


def _told(config: ServerConfig) -> dict[str, Any]:
    """The options that trackers get: who may reach the server, and with which files, is nobody else's business."""
    told: dict[str, Any] = to_json(unexposed(config))
    told["serving"] = {name: value for name, value in told["serving"].items() if name != "credentials"}
    return told
