"""Specs in files, for --spec: environments that somebody else has, whose packages this machine may not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seedbed.common.environment_name import EnvironmentName, canonical
from seedbed.common.errors import ConfigError, UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.options.tasks import Task
from seedbed.server.training.task_set import TaskSet, joint_name


def read_spec(path: Path) -> EnvironmentSpec:
    """Reads what `seedbed env --describe` wrote.

    Raises:
        ConfigError: there is no such file.
        SpecError: it holds something else.
    """
    try:
        return EnvironmentSpec.from_json(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"--spec {path}: expected a file, there is none") from error
    except OSError as error:
        raise ConfigError(f"--spec {path}: expected a file that can be read: {error.strerror}") from error


def options_of_specs(specs: Sequence[EnvironmentSpec], typed: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of the environments that have these specs: of several tasks those that they have in common.

    Raises:
        UsageError: another environment was typed, or tasks differ in what must be the same for all.
    """
    values: dict[str, Any] = {}
    for spec in specs:
        name = EnvironmentName.parse(spec.environment)
        own = {
            "environment.image_size": None if name.image_size is None else "{}x{}".format(*name.image_size),
            "environment.grey": name.grey,
            "environment.max_episode_steps": name.max_steps,
        }
        if len(specs) == 1:
            own |= {"environment.env": name.id, "environment.env_kwargs": canonical(name.kwargs) or None}
        if spec.preset:
            own["environment.atari_preset"] = spec.preset
        for path, value in own.items():
            if values.setdefault(path, value) != value:
                option = path.partition(".")[2].replace("_", "-")
                raise UsageError(
                    f"expected specs with one --{option}, got {values[path]} and {value} ({spec.environment})"
                )
            if path in typed and typed[path] != value:
                raise UsageError(
                    f"expected the environment of --spec, {spec.environment}, got {typed[path]}: leave one of them out"
                )
    return values


def tasks_of_specs(specs: Sequence[EnvironmentSpec]) -> TaskSet | None:
    """The tasks that have these specs; None: there is one, or none."""
    if len(specs) < 2:
        return None
    names = [EnvironmentName.parse(spec.environment) for spec in specs]
    tasks = tuple(Task(env=name.id, kwargs=name.kwargs) for name in names)
    return TaskSet(joint_name(tasks), tasks)
