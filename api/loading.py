"""Policies by name: a run's directory, one of its checkpoints, or a run on a hub -> the policy that acts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from seedbed.common.errors import UsageError
from seedbed.common.options import override
from seedbed.common.plugins import Trust, start_directory
from seedbed.common.specs import EnvironmentSpec
from seedbed.hub_folder import HUB_PREFIX, fetch
from seedbed.policy import Policy
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.tasks import find_task
from seedbed.server.run.finding import find_checkpoint
from seedbed.server.run.state import RunState
from seedbed.server.training.resolve import admit, config_of
from seedbed.words import in_words_of_python


def load(
    run: str | os.PathLike[str],
    *,
    best: bool = False,
    device: str = "cpu",
    seed: int = 0,
    allow_import: bool = False,
    task: str | None = None,
    precision: Literal["float32"] | None = None,
) -> Policy:
    """The policy that a run has learnt.

    Args:
        run: its directory, which gives the newest checkpoint, or the folder of one checkpoint in it; or
            "hf:owner/name" of a hub, where `seedbed push` has put it: nothing that it names is imported.
        best: of a run's directory, the checkpoint of its best cohort of episodes instead of the newest.
        device: "cpu", "cuda" or "cuda:1". One environment's actions are soonest on the CPU.
        seed: of the actions that are drawn where they are not greedy.
        allow_import: import the modules of algorithm, torso and core that the run's config.json names. Whoever wrote
            the file chose them.
        task: which of the run's tasks it plays, by its name or its environment's; needed where there are several.
        precision: float32 also where images are read, or memory is kept, in bfloat16, as an exported policy does.

    Raises:
        ConfigError: there is no run, or no checkpoint yet.
        UsageError: it names a module, and that may not be imported.
        VersionError: a newer seedbed wrote it.
    """
    with in_words_of_python():
        return policy_of(
            run, best=best, device=device, seed=seed, allow_import=allow_import, task=task, precision=precision
        )


def policy_of(
    run: str | os.PathLike[str],
    *,
    best: bool,
    device: str = "cpu",
    seed: int = 0,
    allow_import: bool,
    task: str | None,
    precision: Literal["float32"] | None,
) -> Policy:
    """See `load`; errors name options as the command line has them."""
    file, checkpoint = find_checkpoint(_folder(run, best=best, allow_import=allow_import), best=best)
    trust = Trust(allow_import=allow_import, start_directory=start_directory())
    config = config_of(file, trust)
    admit(config, file.spec, trust)
    if precision is not None:
        halves = {"network.precision": precision, "network.core_memory_precision": precision}
        config = override(config, halves)
    number = task_number(config, file.spec, task)
    return Policy(config, file.spec, RunState.from_checkpoint(checkpoint), device=device, seed=seed, task=number)


def task_number(config: ServerConfig, spec: EnvironmentSpec, task: str | None) -> int | None:
    """Which of a run's tasks is meant; None: it has one.

    Raises:
        UsageError: there is no such task, or it has to be said which.
    """
    if not spec.tasks:
        if task not in (None, spec.environment):
            raise UsageError(f"expected no task, the run has one, {spec.environment}; got {task!r}")
        return None
    if task is None:
        raise UsageError(f"expected --task NAME, one of {', '.join(config.tasks.names)}: the run has several")
    return find_task(task, config.tasks.names, [own.environment for own in spec.tasks])


def _folder(run: str | os.PathLike[str], *, best: bool, allow_import: bool) -> Path:
    """Where a run is; one from a hub comes here first."""
    name = os.fspath(run)
    if not name.startswith(HUB_PREFIX):
        return Path(name)
    if best or allow_import:
        raise UsageError(f"expected {name} alone: a hub has one policy of a run, and brings nothing to import")
    return fetch(name)
