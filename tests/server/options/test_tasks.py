"""Tasks of a run: how they are read and called, and which environments play which."""

from __future__ import annotations

import json

import pytest

from seedbed.common.environment_options import EnvironmentOptions
from seedbed.common.errors import UsageError
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.run import FleetConfig
from seedbed.server.options.task_plan import TaskPlan
from seedbed.server.options.tasks import TasksConfig, names_of, read_tasks, tasks_of, to_text


def several(*environments: str, weight: float = 1.0) -> TasksConfig:
    entries = [{"env": env, "weight": weight if number else 1.0} for number, env in enumerate(environments)]
    return TasksConfig(tasks_json=json.dumps(entries))


def test_a_list_is_read_and_written() -> None:
    data = ["CartPole-v1", {"env": "ALE/Pong-v5", "kwargs": {"frameskip": 4}, "target": 18, "weight": 2}]
    tasks = tasks_of({"tasks": data}, "f")
    assert [task.target for task in tasks] == [None, 18]
    assert read_tasks(to_text(tasks)) == tasks
    common = EnvironmentOptions(env_kwargs='{"frameskip": 2, "mode": 1}', image_size="8x8")
    assert tasks[1].environment(common).env_name == 'ALE/Pong-v5{"frameskip":4,"mode":1}@8x8'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"f: expected a list of tasks, got \[\]"),
        ([{"environment": "x"}], r"f: task 1: expected an object like .*, got"),
        ([{"env": "x", "goal": 3}], "f: task 1: expected env, kwargs, target.*, got goal"),
        (["y", {"env": "x", "target": "3"}], "f: task 2: target: expected a number, got '3'"),
        ([{"env": "x", "weight": 0}], "expected a weight of more than 0, got 0 of x"),
        ([{"env": "x", "random": 1}], "expected random and human returns that differ, or neither, got 1 and none of x"),
        ([{"env": "x", "name": "ジャンプ"}], "expected a name with letters from A to z or digits, got 'ジャンプ' of x"),
        ([{"env": "x{}"}], "expected a task's id alone"),
        (["x", "x"], "expected tasks that differ, got x more than once"),
    ],
)
def test_wrong_lists_are_refused(data: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tasks_of(data, "f")


def test_names_are_short_where_they_can_be() -> None:
    data = ["ALE/Pong-v5", "MinAtar/Breakout-v1", {"env": "X-v0", "kwargs": {"n": 1}}, {"env": "X-v0"}]
    assert names_of(tasks_of([*data, {"env": "Y-v1", "name": "why"}], "")) == (
        "Pong",
        "Breakout",
        "X-v0_n_:1",
        "X-v0",
        "why",
    )


def test_a_task_is_found_by_its_name_or_its_environment() -> None:
    tasks = several("ALE/Pong-v5", "ALE/Breakout-v5")
    assert (tasks.find("Breakout"), tasks.find("ALE/Pong-v5")) == (1, 0)
    named = TasksConfig(tasks_json='[{"env": "x"}, {"env": "y", "name": "far / wide"}]')
    assert (named.names[1], named.find("far / wide"), named.find("far_wide")) == ("far_wide", 1, 1)
    with pytest.raises(UsageError, match="expected one task out of Pong, Breakout, got 'Pnog'"):
        tasks.find("Pnog")


def test_indices_take_turns_by_weight() -> None:
    assert [TaskPlan([1, 1, 1]).task_of(index) for index in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    plan = TaskPlan([3, 1])
    assert [len(indices) for indices in plan.indices(40)] == [30, 10]
    assert plan.indices(8)[1] == [2, 6]
    assert plan.choose([3, 1]) == 0  # both have their share: the first
    assert plan.choose([6, 1]) == 1
    assert TaskPlan([1, 1]).task_of(2**32 - 1) == 1  # at once, although a stranger says it


def test_every_task_needs_environments_of_each_kind() -> None:
    with pytest.raises(UsageError, match="expected --num-envs with an environment for each of 3 tasks, got 2"):
        ServerConfig(tasks=several("a", "b", "c"), fleet=FleetConfig(num_envs=2))
    with pytest.raises(UsageError, match="expected --num-greedy-envs with one for each of 3 tasks, or 0, got 2"):
        ServerConfig(tasks=several("a", "b", "c"), fleet=FleetConfig(num_envs=9, num_greedy_envs=2))
    ServerConfig(tasks=several("a", "b", "c"), fleet=FleetConfig(num_envs=9, num_greedy_envs=3))
