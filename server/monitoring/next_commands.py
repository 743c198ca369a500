"""What a person may do when a run has ended: commands that work as they are."""

from __future__ import annotations

import shlex

from seedbed.common.options import flatten, options_of
from seedbed.common.plugins import is_module
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.resuming import is_exposure
from seedbed.server.trackers.registry import names_in


def next_commands(
    config: ServerConfig, verb: str, reached: str | None, *, steps: int = 0, has_best: bool = False
) -> list[str]:
    """What a person may want to do when a run has ended.

    Args:
        config: of the run.
        verb: it was started with, and with how many learners.
        reached: the stop condition that ended it, if one did.
        steps: agent steps of the run so far, which may be more than it was to have.
        has_best: a cohort was judged, so there is a best checkpoint beside the newest.
    """
    run_dir = shlex.quote(str(config.run.run_dir))
    score = f"score     seedbed eval {run_dir}{_allowance(config)}"
    return [
        f"{score}  (--best: the best checkpoint)" if has_best else score,
        f"curves    seedbed plot {run_dir}",
        f"go on     {continuation(config, verb, reached, steps)}",
    ]


def verb_of(*, local: bool, learners: int = 1) -> str:
    """What a run is started with: train or server, and several learners on this machine if it has them."""
    verb = "train" if local else "server"
    return verb if learners == 1 else f"{verb} --learners {learners}"


def continuation(config: ServerConfig, verb: str, reached: str | None, steps: int = 0) -> str:
    """The command that continues a run: the same again, with more of what ended it; see `next_commands`."""
    run_dir = shlex.quote(str(config.run.run_dir))
    command = f"seedbed {verb} --run-dir {run_dir}{_allowance(config)}{_exposure(config)}"
    run = config.run
    if reached is None:
        return command
    if "agent steps" in reached:
        return f"{command} --max-steps {(max(1, steps // run.max_steps) + 1) * run.max_steps}"
    if "of people's" in reached:
        return f"{command} --target-score none (or a higher one)"
    if "every task" in reached:
        return f"{command} --tasks FILE, the same tasks with higher targets"
    if "return" in reached:
        return f"{command} --target-return none (or a higher one)"
    return f"{command} --max-seconds none (or more)"


def _exposure(config: ServerConfig) -> str:
    """Who may reach a server is said at every start."""
    usual, values = flatten(ServerConfig()), flatten(config)
    words = [
        word
        for leaf in options_of(config)
        if is_exposure(leaf.path) and values[leaf.path] != usual[leaf.path]
        for word in leaf.to_argv(values[leaf.path])
    ]
    return "".join(f" {shlex.quote(word)}" for word in words)


def _allowance(config: ServerConfig) -> str:
    """Names in a run's files have no module imported unless that is said."""
    names = (
        config.environment.env,
        *(task.env for task in config.tasks.tasks),
        config.algorithm,
        config.network.torso,
        config.network.core,
        *names_in(config.monitoring.track),
    )
    return " --allow-import" if any(name is not None and is_module(name) for name in names) else ""
