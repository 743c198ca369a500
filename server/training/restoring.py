"""Restoring: what a run begins with beside its own checkpoint, another run's weights or the replay of its last stop."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from seedbed.server.options.config import ServerConfig
from seedbed.server.run.directory import RunDirectory
from seedbed.server.run.finding import find_checkpoint
from seedbed.server.run.replay_files import ReplayFiles
from seedbed.server.run.state import RunState
from seedbed.server.training.assemble import Parts
from seedbed.server.training.opening import OpenedRun


def weights_of_another(opened: OpenedRun) -> Mapping[str, Tensor] | None:
    """What a new run begins with, if that is another run's.

    Raises:
        ConfigError: that is no run, or has no checkpoint.
    """
    source = opened.config.run.init_from
    if source is None or opened.before is not None:
        return None
    learner = RunState.from_checkpoint(find_checkpoint(source)[1]).learner
    assert learner is not None, "every checkpoint of a run has a learner"
    weights: Mapping[str, Tensor] = learner["learnt"]
    return weights


def restore_replay(config: ServerConfig, parts: Parts, directory: RunDirectory, state: RunState) -> ReplayFiles:
    """The files of a run's replay, from which an empty one has been filled if they belong to where the run stands."""
    contents = parts.source.contents
    kept = contents is not None and config.algorithm_options.replay.checkpoint_replay
    files = ReplayFiles(directory.path, contents if kept else None)
    files.load(state.agent_steps)
    return files
