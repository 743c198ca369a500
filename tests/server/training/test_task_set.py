"""Several tasks on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seedbed.common.errors import UsageError
from seedbed.common.joint_spec import join
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.presets.suites import SUITES
from seedbed.server.run.human_scores import scale_of
from seedbed.server.training import opening
from seedbed.server.training.command_line import Given, read_command_line
from seedbed.server.training.opening import open_run


def read(*argv: Any) -> Given:
    return read_command_line(list(map(str, argv)), prog="seedbed train")


def spec_of(name: str) -> EnvironmentSpec:
    array = ArraySpec(name="observation", dtype="float32", shape=(3,))
    return EnvironmentSpec(environment=name, observations=(array,), actions=(discrete("action", 2),))


@pytest.fixture(autouse=True)
def described(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment is built."""
    monkeypatch.setattr(
        opening,
        "describe",
        lambda given: (
            join([spec_of(task.env) for task in given.all_tasks], given.task_name)
            if given.all_tasks
            else spec_of(given.environment.env_id)
        ),
    )


def test_env_said_several_times_is_several_tasks() -> None:
    given = read("--env", "a:make", "--env=B-v0", "--seed", 3)
    assert [task.env for task in given.all_tasks] == ["a:make", "B-v0"]
    assert given.trust.typed == {"a:make"}
    assert (str(given.directory.path), given.wants_help) == ("runs/a-make-B", False)
    assert read("--env", "B-v0").all_tasks == ()
    config = open_run(given).config
    assert (config.environment.env, config.network.num_tasks, config.environment.seed) == (None, 2, 3)
    assert config.fleet.num_envs % 2 == 0
    assert config.algorithm_options.popart == "on"


def test_a_file_of_tasks_names_them_with_targets(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([{"env": "A-v0", "target": 5}, {"env": "B-v0", "weight": 3}]))
    given = read("--tasks", file)
    assert str(given.directory.path) == "runs/mine"
    config = open_run(given).config
    assert config.tasks.plan.shares == (0.25, 0.75)
    again = tmp_path / "config.json"
    again.write_text(json.dumps({"tasks": {"tasks_json": config.tasks.tasks_json}}))
    assert open_run(read("--config", again)).config.tasks == config.tasks
    assert open_run(read("--config", again, "--env", "C-v0")).config.tasks.tasks == ()


def test_suites_name_games_that_people_were_measured_on() -> None:
    assert {name: len(tasks) for name, tasks in SUITES.items()} == {"atari57": 57, "atari8": 8, "minatar": 5}
    assert all(scale_of(task["env"]) for name in ("atari57", "atari8") for task in SUITES[name])
    assert read("--suite", "minatar").all_tasks[0].env == "MinAtar/Asterix-v1"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--suite", "atari75"], r"unknown suite 'atari75': did you mean atari57\?"),
        (["--suite", "atari57", "--env", "A-v0"], "expected --env, --suite or --tasks, got --env and --suite"),
        (["--env", "A-v0", "--env", "A-v0"], "--env: expected tasks that differ, got A-v0 more than once"),
        (["--env", "A-v0", "--env", "B-v0", "--spec", "first"], "expected --spec or several tasks by name, got both"),
        (["--env", "A-v0", "--env", "B-v0", "--num-envs", "1"], "expected --num-envs with an environment for each"),
    ],
)
def test_what_does_not_go_together_is_told(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_run(read(*argv))


def test_specs_in_files_are_tasks_of_environments_that_this_machine_does_not_have(tmp_path: Path) -> None:
    files: list[Path] = []
    for name in ("A-v0", 'B-v0{"n":1}@8x8'):
        files.append(tmp_path / f"{len(files)}.json")
        files[-1].write_text(json.dumps(spec_of(name).to_json()))
    with pytest.raises(UsageError, match="expected specs with one --image-size, got None and 8x8"):
        read("--spec", files[0], "--spec", files[1])
    files[1].write_text(json.dumps(spec_of('B-v0{"n":1}').to_json()))
    opened = open_run(read("--spec", files[0], "--spec", files[1]))
    assert [task.env for task in opened.config.tasks.tasks] == ["A-v0", "B-v0"]
    assert opened.config.tasks.tasks[1].kwargs == {"n": 1}
    assert [task.environment for task in opened.spec.tasks] == ["A-v0", 'B-v0{"n":1}']
    assert open_run(read("--spec", files[0])).config.environment.env == "A-v0"
