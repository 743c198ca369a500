"""A run from its first start to its last: stop conditions, signals, crashes, resuming."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from seedbed.server.learning.learner import Learner
from seedbed.server.monitoring.metrics import REQUIRED
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.run.checkpoint import CheckpointStore, load_newest
from seedbed.server.run.directory import RunDirectory
from seedbed.server.run.state import RunState
from tests.reference.acting import World
from tests.server.monitoring.test_metrics_page import names_on_page
from tests.system.processes import Program, read_metrics, run

pytestmark = pytest.mark.system

COUNTERS = ("wall_s", "agent_steps", "frames", "updates", "episodes")


def _assert_monotone(lines: list[dict[str, Any]]) -> None:
    for before, after in itertools.pairwise(lines):
        for counter in COUNTERS:
            assert before[counter] <= after[counter], (counter, before, after)


def _state(run_dir: Path, folder: str = "checkpoints") -> RunState:
    checkpoint = load_newest(run_dir / folder)
    assert checkpoint is not None
    return RunState.from_checkpoint(checkpoint)


def _has_steps(run_dir: Path, wanted: int) -> bool:
    return bool(read_metrics(run_dir)[-1]["agent_steps"] > wanted)


@pytest.fixture
def run_dir(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(finished_run, tmp_path / "run")


def test_a_stop_condition_leaves_a_complete_run(finished_run: Path) -> None:
    lines, state = read_metrics(finished_run), _state(finished_run)
    assert state.finished is not None
    assert "3,000 agent steps" in state.finished
    assert state.agent_steps >= 3000
    assert lines[-1]["agent_steps"] >= 3000
    assert lines[-1]["updates"] <= state.updates
    assert set(REQUIRED) <= set(lines[-1])
    told = {key for key in lines[-1] if not re.search(r"_p\d\d$", key)}  # quantiles stand in a sentence
    assert told <= set(names_on_page()), "docs/metrics.md names all"
    assert lines[-1]["episodes"] > 0
    assert lines[-1]["episode_return_mean"] > 1
    _assert_monotone(lines)
    config = RunDirectory(finished_run).read()
    assert config is not None
    assert config.spec.environment == "CartPole-v1"


def test_a_finished_run_says_so(run_dir: Path) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file() and path.name != "lock"}

    before = contents()
    done = run("train", "--run-dir", run_dir)
    done.assert_well()
    assert "finished" in done.stdout
    assert f"to go on: seedbed train --run-dir {run_dir} --max-steps 6000" in done.stdout
    assert contents() == before


@pytest.mark.slow
def test_a_second_start_waits_until_the_first_has_left(run_dir: Path) -> None:
    """Both make the same run go on, one after the other; what looks at it does not wait."""
    options = ("--run-dir", run_dir, "--max-steps", 10**8)
    with Program("train", *options) as first:
        first.eventually(partial(_has_steps, run_dir, 4000), "progress")
        with Program("train", *options) as second:
            second.eventually(lambda: f"process {first.process.pid} on" in second.stderr, "patience")
            run("plot", run_dir).assert_well()
            first.send(signal.SIGTERM)
            assert first.wait() == 0
            second.eventually(lambda: "resuming" in second.stderr, "its turn")
            second.send(signal.SIGTERM)
            assert second.wait() == 0
            assert "Traceback" not in second.stderr
    assert (run_dir / "learning_curve.png").exists()
    log = (run_dir / "log").read_text()
    assert log.count("resuming") == 2
    _assert_monotone(read_metrics(run_dir))


def test_a_raised_limit_continues(run_dir: Path) -> None:
    """Counters, learnt parameters and metrics go on where they were; who may reach the server does not.

    The run is of an older version, which lacked an option, and was last started open to everybody.
    """
    before, lines = _state(run_dir), read_metrics(run_dir)
    file = json.loads((run_dir / "config.json").read_text())
    del file["config"]["serving"]["settle_s"]
    file["config"]["serving"]["host"] = "0.0.0.0"
    file["config"]["serving"]["credentials"]["insecure"] = True
    (run_dir / "config.json").write_text(json.dumps(file))
    done = run("train", "--run-dir", run_dir, "--max-steps", 5000)
    done.assert_well()
    assert "which had no serving.settle_s" in done.stderr
    assert "host: 0.0.0.0 in the run, 127.0.0.1 now; insecure: True in the run, False now" in done.stderr
    assert "serving on 127.0.0.1" in done.stderr
    after = _state(run_dir)
    assert after.agent_steps >= 5000
    assert after.updates > before.updates
    assert after.wall_s > before.wall_s
    assert after.episodes["num_episodes"] > before.episodes["num_episodes"]
    now = read_metrics(run_dir)
    assert now[: len(lines)] == lines
    assert now[len(lines)]["agent_steps"] < 5000 + 2000, "the counters did not start again"
    _assert_monotone(now)
    assert json.loads((run_dir / "config.json").read_text())["config"]["run"]["max_steps"] == 5000


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGINT,), pytest.param((signal.SIGTERM, signal.SIGINT), marks=pytest.mark.slow)],
    ids=["interrupted", "one after the other"],
)
def test_signals_save_and_starts_resume(numbers: tuple[signal.Signals, ...], run_dir: Path) -> None:
    """All processes end, exit code 0, and the next start goes on from there. SIGTERM alone: test_stopping.py."""
    before = _state(run_dir)
    for number in numbers:
        with Program("train", "--run-dir", run_dir, "--max-steps", 10**8) as program:
            wanted = before.agent_steps + 1500
            program.eventually(partial(_has_steps, run_dir, wanted), "progress")
            assert len(program.children()) >= 2
            program.send(number)
            assert program.wait() == 0
            program.assert_alone()
            assert f"resuming {run_dir}" in program.stderr
            assert "Traceback" not in program.stderr
        state = _state(run_dir)
        assert state.finished is None
        assert state.updates > before.updates
        assert state.agent_steps >= read_metrics(run_dir)[-1]["agent_steps"] > wanted
        _assert_monotone(read_metrics(run_dir))
        before = state


def test_a_killed_server_leaves_nothing_behind(run_dir: Path) -> None:
    """Neither processes nor half written files; the run goes on from its last checkpoint.

    It is started again at once, as supervisors do, while a frontend of the killed server still has the port.
    """
    before = _state(run_dir)
    with Program("train", "--run-dir", run_dir, "--max-steps", 10**8) as program:
        program.eventually(partial(_has_steps, run_dir, 5000), "progress")
        port = program.address.rpartition(":")[2]
        [frontend] = program.frontends()
        frontend.suspend()
        program.send(signal.SIGKILL)
        program.wait()
        options = ("--run-dir", run_dir, "--max-steps", before.agent_steps + 500, "--port", port)
        with Program("train", *options) as again:
            again.eventually(lambda: f"port {port} of 127.0.0.1 is taken; waiting" in again.stderr, "patience")
            frontend.resume()
            assert again.wait() == 0
            assert "Traceback" not in again.stderr
        program.assert_alone()
    lines = read_metrics(run_dir)
    assert lines[-1]["agent_steps"] < 5000, "lines of the future that did not happen are gone"
    _assert_monotone(lines)
    assert all(not path.name.startswith(".") for path in (run_dir / "checkpoints").iterdir())


def test_a_resumed_learner_is_bit_equal(tmp_path: Path) -> None:
    """From a real checkpoint on disk: the next updates on the same batches give the same parameters and metrics."""
    config = OptimiserConfig(learning_rate=1e-3)
    world = World(NetworkConfig(torso="mlp", core="lstm", core_size=16, precision="float32"), optimiser=config)
    world.run(60)
    batches, learner = world.batches(), world.learner
    for batch in batches[:3]:
        learner.update(batch, 0.1)
    CheckpointStore(tmp_path).save(RunState(learner=learner.get_state()).to_checkpoint())
    saved = _state(tmp_path.parent, tmp_path.name).learner
    assert saved is not None
    resumed = Learner(world.algorithm, config, torch.device("cpu"))
    resumed.set_state(saved)
    assert len(batches) > 4
    for batch in batches[3:]:
        metrics, again = learner.update(batch, 0.2).metrics, resumed.update(batch, 0.2).metrics
        assert all(torch.equal(metrics[name], again[name]) for name in metrics)
    ours, theirs = learner.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert resumed.num_updates == len(batches)
