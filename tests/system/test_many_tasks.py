"""Several tasks, one policy: local and remote clients of different tasks in one run, its files, and its next start."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.system.processes import FAST, Program, read_metrics, run

pytestmark = pytest.mark.system

SMALL, LARGE = "seedbed/Catch-v0", "seedbed/Catch-v0,reward_scale=100"
TASKS = ("--env", SMALL, "--env", LARGE)


def environments(run_dir: Path) -> tuple[int, int] | None:
    """Of each task, as the newest line has them."""
    lines = read_metrics(run_dir)
    if not lines:
        return None
    return lines[-1]["task/Catch/environments"], lines[-1]["task/Catch,reward_scale=100/environments"]


def test_clients_of_different_tasks_join_one_run(tmp_path: Path) -> None:
    options = ("--run-dir", tmp_path / "both", "--algorithm", "vtrace", *FAST, "--num-slots", 32)
    with Program("train", *TASKS, *options) as server:
        server.eventually(lambda: environments(tmp_path / "both") == (4, 4), "both tasks to be played")
        with Program("env", "--server", server.address, "--env", LARGE, "--num-envs", 2) as named:
            named.eventually(lambda: environments(tmp_path / "both") == (4, 6), "the named task to be played")
            with Program("env", "--server", server.address, "--num-envs", 2) as given:
                given.eventually(lambda: environments(tmp_path / "both") == (6, 6), "the other one to be given")
                server.send(signal.SIGTERM)
                assert server.wait() == 0
    line = read_metrics(tmp_path / "both")[-1]
    assert line["task/Catch/agent_steps"] + line["task/Catch,reward_scale=100/agent_steps"] == line["agent_steps"]
    assert 0 < line["task/Catch/share"] < 1
    written = [json.loads(entry) for entry in (tmp_path / "both" / "episodes.jsonl").read_text().splitlines()]
    returns = {task: {entry["return"] for entry in written if entry["task"] == task} for task in ("Catch", LARGE[15:])}
    assert returns["Catch"] <= {1.0, -1.0}
    assert {abs(value) for entry in written for value in [entry["return"]] if entry["task"] != "Catch"} == {100.0}
    assert len(json.loads((tmp_path / "both" / "config.json").read_text())["spec"]["tasks"]) == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_of_several_tasks_goes_on_as_it_was(tmp_path: Path) -> None:
    options = ("--run-dir", tmp_path / "both", "--algorithm", "vtrace", *FAST)
    run("train", *TASKS, *options, "--max-steps", 1500).assert_well()
    first = read_metrics(tmp_path / "both")[-1]
    run("train", "--env", LARGE, "--env", SMALL, *options).assert_error(78, "expected the tasks of the run in")
    run("train", *options, "--max-steps", 3000).assert_well()
    lines = read_metrics(tmp_path / "both")
    assert lines[-1]["task/Catch/agent_steps"] > first["task/Catch/agent_steps"] > 0
    assert lines[-1]["task/Catch/cohorts"] >= first["task/Catch/cohorts"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_with_popart_a_task_with_small_rewards_is_learnt_beside_one_with_large_ones(tmp_path: Path) -> None:
    """They look alike and want opposite moves; without PopArt the small one is not learnt at all."""
    last = {}
    for popart in ("on", "off"):
        folder = tmp_path / popart
        mirrored = ("--env", f"{SMALL},mirrored=1", "--env", LARGE, "--task-input", "--popart", popart)
        # PPO divides advantages by their own spread and hears the small one as soon as the large one is learnt.
        options = ("--algorithm", "vtrace", "--max-steps", 200_000, "--run-dir", folder, "--device", "cpu")
        run("train", *mirrored, *options, within_s=1800.0).assert_well()
        last[popart] = read_metrics(folder)[-1]
    small, large = ("task/Catch,mirrored=1/cohort_return_mean", "task/Catch,reward_scale=100/cohort_return_mean")
    assert last["on"][small] > 0.85
    assert last["on"][large] > 85
    assert last["off"][small] < 0
    assert last["off"][large] / 100 > last["off"][small] + 0.5, "which is ahead, though later than with PopArt"
