"""Restoring: what a run begins with beside its own checkpoint, another run's weights or the replay of its last stop."""

from __future__ import annotations

from seedbed.common.options import to_json
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.directory import RunDirectory, RunFile
from seedbed.server.run.finding import find_checkpoint
from seedbed.server.run.replay_files import ReplayFiles
from seedbed.server.run.state import RunState
from seedbed.server.training.assemble import OtherWeights, Parts
from seedbed.server.training.opening import OpenedRun


def weights_of_another(opened: OpenedRun) -> OtherWeights | None:
    """What a new run begins with, if that is another run's.

    Raises:
        ConfigError: that is no run, or has no checkpoint.
    """
    source = opened.config.run.init_from
    if source is None or opened.before is not None:
        return None
    run, checkpoint = find_checkpoint(source)
    learner = RunState.from_checkpoint(checkpoint).learner
    assert learner is not None, "every checkpoint of a run has a learner"
    return OtherWeights(learner["learnt"], str(source), tuple(_differences(run, opened)))


def _differences(there: RunFile, here: OpenedRun) -> list[str]:
    """What explains that another run has another network: first its algorithm, then its network and environment."""
    theirs, ours = there.config, to_json(here.config)
    if theirs["algorithm"] != ours["algorithm"]:
        return [f"{theirs['algorithm']} there, {ours['algorithm']} here"]
    networks = theirs["network"], ours["network"]
    found = [
        f"--{name.replace('_', '-')} {networks[0][name]} there, {value} here"
        for name, value in networks[1].items()
        if networks[0].get(name, value) != value
    ]
    return found + here.spec.differences(there.spec)


def restore_replay(config: ServerConfig, parts: Parts, directory: RunDirectory, state: RunState) -> ReplayFiles:
    """The files of a run's replay, from which an empty one has been filled if they belong to where the run stands."""
    contents = parts.source.contents
    kept = contents is not None and config.algorithm_options.replay.checkpoint_replay
    files = ReplayFiles(directory.path, contents if kept else None)
    files.load(state.agent_steps)
    return files
