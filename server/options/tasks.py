"""Tasks of a run that learns several with one policy: environments, targets and weights, and options about them all."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from seedbed.common.environment_name import MARKS, canonical, parse_kwargs
from seedbed.common.environment_options import EnvironmentOptions
from seedbed.common.errors import UsageError
from seedbed.common.options import option, override
from seedbed.server.options.task_plan import TaskPlan

_VERSION = re.compile(r"-v\d+$")
_UNFIT = re.compile(r"[^\w.,=:+-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One of several.

    Attributes:
        env: id of its environment.
        kwargs: keyword arguments of what makes it, over those of --env-kwargs.
        target: return at which it counts as learnt.
        weight: its share of environments, beside the weights of the others.
        random, human: returns of random play and of people, or of whatever its scores are measured by; both or none.
        name: for people and metrics; made of the id unless given.
    """

    env: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    target: float | None = None
    weight: float = 1.0
    random: float | None = None
    human: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if any(mark in self.env for mark in MARKS):
            raise UsageError(f"expected a task's id alone as its env, got {self.env!r}: say the rest as kwargs")
        if not self.weight > 0:
            raise UsageError(f"expected a weight of more than 0, got {self.weight:g} of {self.env}")
        if (self.random is None) != (self.human is None) or (self.random is not None and self.random == self.human):
            random, human = ("none" if value is None else f"{value:g}" for value in (self.random, self.human))
            raise UsageError(
                f"expected random and human returns that differ, or neither, got {random} and {human} of {self.env}"
            )
        if self.name and not cleaned(self.name):
            raise UsageError(f"expected a name with letters from A to z or digits, got {self.name!r} of {self.env}")

    @classmethod
    def from_json(cls, data: Any, where: str = "a task") -> Task:
        """Reads one entry of a list of tasks; a text is an id.

        Raises:
            UsageError: it is no such entry.
        """
        if isinstance(data, str):
            return cls(env=data)
        kinds: Mapping[str, Any] = {"env": str, "kwargs": Mapping, "name": str}
        known = [part.name for part in fields(cls)]
        if not isinstance(data, Mapping) or not isinstance(data.get("env"), str):
            raise UsageError(f'{where}: expected an object like {{"env": "ALE/Pong-v5"}}, got {data!r:.100}')
        if unknown := sorted(set(data) - set(known)):
            raise UsageError(f"{where}: expected {', '.join(known)}, got {', '.join(map(str, unknown))}")
        for name, value in data.items():
            kind = kinds.get(name, (int, float))
            optional = name in ("target", "random", "human")
            if not (isinstance(value, kind) or (optional and value is None)) or isinstance(value, bool):
                raise UsageError(f"{where}: {name}: expected {_said(kind)}, got {value!r:.100}")
        return cls(**data)

    def environment(self, common: EnvironmentOptions) -> EnvironmentOptions:
        """Options of its environment: those of all tasks, with its own id and keyword arguments."""
        kwargs = {**parse_kwargs(common.env_kwargs or "{}"), **self.kwargs}
        return override(common, {"env": self.env, "env_kwargs": canonical(kwargs) or None})


def _said(kind: Any) -> str:
    return {str: "a text", Mapping: "an object"}.get(kind, "a number")


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksConfig:
    """several tasks"""

    tasks_json: str | None = option(
        None, "tasks as a JSON list of objects, as --tasks has them in a file", metavar="JSON", hidden=True
    )
    target_score: float | None = option(
        None,
        "several tasks: stop when the capped mean of their human-normalised scores reaches this, 1 for people: of each "
        "task (return - random) / (human - random), at most 1, by cohorts",
    )

    def __post_init__(self) -> None:
        if self.tasks_json is not None and len(read_tasks(self.tasks_json)) < 2:
            raise UsageError("expected several tasks, got one: say it as --env")

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All of them; empty where a run has one environment."""
        return () if self.tasks_json is None else read_tasks(self.tasks_json)

    @property
    def names(self) -> tuple[str, ...]:
        """Of each task, for people and metrics."""
        return names_of(self.tasks)

    @property
    def plan(self) -> TaskPlan:
        """Which environments play which."""
        return TaskPlan([task.weight for task in self.tasks] or (1.0,))

    @property
    def environments(self) -> tuple[tuple[str, str], ...]:
        """What shapes and the meaning of what is learnt depend on: id and keyword arguments of each."""
        return tuple((task.env, canonical(task.kwargs)) for task in self.tasks)

    def find(self, name: str) -> int:
        """The number of a task, by its name or its environment's id.

        Raises:
            UsageError: there is none, or several.
        """
        return find_task(name, self.names, [task.env for task in self.tasks])


def find_task(name: str, names: Sequence[str], environments: Sequence[str]) -> int:
    """The number of a task.

    Args:
        name: of the task, as it is shown or as its file has it, or of its environment.
        names, environments: of all tasks.

    Raises:
        UsageError: there is none, or several.
    """
    pairs = enumerate(zip(names, environments, strict=True))
    found = [number for number, (short, env) in pairs if name == env or cleaned(name) == short]
    exact = [number for number in found if names[number] == cleaned(name)]
    if len(exact or found) != 1:
        raise UsageError(f"expected one task out of {', '.join(names)}, got {name!r}")
    return (exact or found)[0]


@functools.lru_cache(maxsize=16)
def read_tasks(text: str) -> tuple[Task, ...]:
    """Tasks out of a JSON list.

    Raises:
        UsageError: it is no such list.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"expected a list of tasks in JSON, got {text!r:.100} ({error})") from None
    return tasks_of(data, "tasks")


def tasks_of(data: Any, where: str) -> tuple[Task, ...]:
    """Tasks out of what a file holds: a list of them, or a list under the name "tasks".

    Raises:
        UsageError: it is something else, or two tasks are the same.
    """
    if isinstance(data, Mapping) and set(data) == {"tasks"}:
        data = data["tasks"]
    if not isinstance(data, list) or not data:
        raise UsageError(f"{where}: expected a list of tasks, got {data!r:.100}")
    tasks = tuple(Task.from_json(entry, f"{where}: task {number}") for number, entry in enumerate(data, 1))
    names = names_of(tasks)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"{where}: expected tasks that differ, got {twice[0]} more than once")
    return tasks


def to_text(tasks: Sequence[Task]) -> str:
    """The inverse of `read_tasks`, without what is not said of a task."""
    kept = [
        {part.name: value for part in fields(Task) if (value := getattr(task, part.name)) != _default(part)}
        for task in tasks
    ]
    return json.dumps([{**entry, "env": task.env} for entry, task in zip(kept, tasks, strict=True)])


def _default(part: Any) -> Any:
    return {} if part.name == "kwargs" else part.default


def names_of(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Short names, all different where the tasks are: Pong for ALE/Pong-v5, longer where that is ambiguous."""
    short = [task.name or _VERSION.sub("", task.env.partition("/")[2] or task.env) for task in tasks]
    middle = [name.replace("-v0,", ",") for name in short]
    counts = Counter(middle)
    names = [
        name if task.name or counts[name] == 1 else task.env + canonical(task.kwargs)
        for name, task in zip(middle, tasks, strict=True)
    ]
    return tuple(map(cleaned, names))


def cleaned(name: str) -> str:
    """A name as metrics and the screen have it: what they have no room for becomes "_", and goes at either end."""
    return _UNFIT.sub("_", name).strip("_")
