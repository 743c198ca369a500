"""Sets of tasks on the command line: --env said several times, --suite NAME, or --tasks FILE."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seedbed.common.errors import UsageError
from seedbed.server.options.tasks import Task, names_of, tasks_of
from seedbed.server.presets.suites import SUITES
from seedbed.server.training.options_file import read_data

TASKS = "tasks.tasks_json"
"""Dotted path of the option that holds them."""

_ENV = "--env"
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Tasks for one policy.

    Attributes:
        name: of the set, for people and folders.
        tasks: at least two.
    """

    name: str
    tasks: tuple[Task, ...]


def split_envs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line without its --env where it has several, and these."""
    rest, envs, words = [], [], list(words)
    while words:
        word = words.pop(0)
        if word == _ENV and words:
            envs.append(words.pop(0))
        elif word.startswith(f"{_ENV}="):
            envs.append(word.partition("=")[2])
        else:
            rest.append(word)
    if len(envs) > 1:
        return rest, envs
    return [*rest, *(f"{_ENV}={env}" for env in envs)], []


def find_tasks(envs: Sequence[str], env: str | None, suite: str | None, file: Path | None) -> TaskSet | None:
    """The tasks that were asked for; None: a single environment, or nothing was said.

    Args:
        envs: of --env, said several times.
        env: of --env, said once.
        suite, file: of --suite and --tasks.

    Raises:
        UsageError: they are said twice, or are no tasks.
        ConfigError: the file cannot be read.
    """
    given = {"--env": envs or env, "--suite": suite, "--tasks": file}
    if len(said := [flag for flag, value in given.items() if value]) > 1:
        raise UsageError(f"expected --env, --suite or --tasks, got {' and '.join(said)}: a file can name all of them")
    if suite is not None:
        if suite not in SUITES:
            near = difflib.get_close_matches(suite, SUITES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SUITES)}"
            raise UsageError(f"unknown suite {suite!r}: {hint}")
        return TaskSet(suite, tasks_of(list(SUITES[suite]), f"--suite {suite}"))
    if file is not None:
        tasks = tasks_of(read_data(file, "--tasks"), f"--tasks {file}")
        if len(tasks) < 2:
            raise UsageError(f"--tasks {file}: expected at least two tasks, got {tasks[0].env}: say it as --env")
        return TaskSet(file.stem, tasks)
    if envs:
        tasks = tasks_of(list(envs), "--env")
        return TaskSet(joint_name(tasks), tasks)
    return None


def joint_name(tasks: Sequence[Task]) -> str:
    """Of a set without a name."""
    names = names_of(tasks)
    shown = [*names[: _MOST_NAMED - 1], f"{len(names) - _MOST_NAMED + 1}-more"] if len(names) > _MOST_NAMED else names
    return "+".join(shown)
