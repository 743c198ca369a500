"""Policies of several tasks from Python: each plays its own, whatever larger rows the network reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import seedbed
from seedbed.common.errors import UsageError
from seedbed.common.joint_spec import join, served
from seedbed.common.options import override, to_json
from seedbed.env_client.environments.building import Care, describe, make_environments
from seedbed.exporting import export
from seedbed.loading import task_number
from seedbed.policy import Policy
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.checkpoint import CheckpointStore
from seedbed.server.run.directory import RunDirectory, RunFile
from seedbed.server.run.state import RunState
from seedbed.server.training.resolve import defaults_of
from tests.system.processes import run

NAMES = ("seedbed/Catch-v0", "seedbed/CatchMasked-v0")
JOINT = join([describe(name, "") for name in NAMES], "both")


def config(algorithm: str = "ppo") -> ServerConfig:
    return override(
        defaults_of(algorithm),
        {
            "environment.env": None,
            "tasks.tasks_json": json.dumps(list(NAMES)),
            "network.num_tasks": 2,
            "network.task_input": True,
            "network.precision": "float32",
            "algorithm_options.popart": "on",
        },
    )


@pytest.mark.parametrize("task", [0, 1])
def test_a_policy_reads_what_its_own_environment_shows(task: int) -> None:
    policy = Policy(config(), JOINT, RunState(), task=task)
    assert policy.spec == JOINT.tasks[task]
    assert policy.rows == served(JOINT)[task]
    environments = make_environments(NAMES[task], "", [0], 0, Care(served=served(JOINT)))
    rows = environments.reset()
    memory = policy.initial_memory()
    board = rows.observations[0][0]
    mask = None if task == 0 else rows.observations[1][0]
    for _ in range(30):
        action, memory = policy.act(board, memory, mask=mask, greedy=False)
        assert action < (3 if task == 0 else 4)
    sent, _ = policy.answer(rows.observations, policy.initial_memory())
    best, _ = policy.act(board, policy.initial_memory(), mask=mask)
    assert best == sent[0][0]


def test_the_task_changes_what_is_done() -> None:
    numbers = []
    rows = (np.ones((1, 10, 5), np.float32), np.ones((1, 4), np.uint8))
    for task in range(2):
        policy = Policy(config(), JOINT, RunState(), task=task)
        numbers.append(next(iter(policy.numbers(rows, policy.initial_memory()).values())))
    assert not np.array_equal(numbers[0], numbers[1])


def test_which_task_has_to_be_said() -> None:
    with pytest.raises(UsageError, match="expected --task NAME, one of Catch, CatchMasked: the run has several"):
        task_number(config(), JOINT, None)
    assert task_number(config(), JOINT, "CatchMasked") == task_number(config(), JOINT, "seedbed/CatchMasked-v0") == 1
    single = replace(JOINT.tasks[0], environment="x")
    assert task_number(ServerConfig(), single, None) is None
    with pytest.raises(UsageError, match="expected no task, the run has one, x"):
        task_number(ServerConfig(), single, "y")


def test_what_has_to_be_said_is_named_as_it_is_said_there(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write(RunFile(to_json(config()), JOINT, "0"))
    CheckpointStore(directory.checkpoints).save(RunState().to_checkpoint())
    with pytest.raises(UsageError, match="expected task=NAME, one of Catch, CatchMasked"):
        seedbed.load(tmp_path)
    with pytest.raises(UsageError, match="expected --task NAME, one of Catch, CatchMasked"):
        export(tmp_path, tmp_path / "policy.onnx")


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(600)
def test_a_run_of_tasks_that_differ_is_scored_loaded_and_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    options = ("--num-envs", 8, "--batch-size", 4, "--max-steps", 3000, "--device", "cpu", "--algorithm", "vtrace")
    run("train", "--env", NAMES[0], "--env", NAMES[1], "--run-dir", folder, *options).assert_well()
    scores = tmp_path / "scores.json"
    run("eval", folder, "--episodes", 6, "--eval-envs", 2, "--json", scores).assert_well()
    result = json.loads(scores.read_text())
    assert [(row["task"], row["episodes"]) for row in result["tasks"]] == [("Catch", 6), ("CatchMasked", 6)]
    assert result["mean"] == pytest.approx(np.mean([row["mean"] for row in result["tasks"]]))
    run("eval", folder, "--episodes", 4, "--task", "CatchMasked", "--json", scores).assert_well()
    assert json.loads(scores.read_text())["environment"] == NAMES[1]
    run("eval", folder, "--task", "Pong").assert_error(
        UsageError.exit_code, "expected one task out of Catch, CatchMasked, got 'Pong'"
    )
    policy = seedbed.load(folder, task="Catch")
    action, _ = policy.act(np.zeros((10, 5), np.float32), policy.initial_memory())
    assert action in range(3)
    run("plot", folder, "--task", "all").assert_well()
