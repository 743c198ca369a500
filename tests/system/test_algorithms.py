"""Other algorithms through the whole system: in rounds, under faults, bit for bit, and one after the other."""

from __future__ import annotations

import contextlib
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from seedbed.server.run.checkpoint import load_newest
from seedbed.server.run.state import RunState
from tests.system.processes import FAST, Program, read_metrics, run

pytestmark = pytest.mark.system


def learned(run_dir: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run_dir) if line.get("abs_log_rho_max") is not None]


def num_updates(run_dir: Path) -> int:
    lines = learned(run_dir)
    return int(lines[-1]["updates"]) if lines else 0


def has_learned_more(run_dir: Path, before: int) -> bool:
    return num_updates(run_dir) > before + 20


def test_rounds_go_on_whoever_dies(tmp_path: Path) -> None:
    """Every batch is on-policy to the last bit of rounding, with a recurrent policy that learns all the time.

    The learner ends the run with an error if a single row has another version than its own.
    """
    endless = ("--target-return", 2)  # the chain is learnt in seconds
    options = ("--preset", "memory", "--algorithm", "a2c", *FAST, *endless, "--num-clients", 2, "--run-dir", tmp_path)
    with Program("train", *options) as training:
        training.eventually(lambda: training.stderr.count("connected to") == 2 and num_updates(tmp_path), "updates")
        for kill in (training.frontends()[0].kill, training.clients()[0].kill):
            kill()
            before = num_updates(tmp_path)
            training.eventually(partial(has_learned_more, tmp_path, before), "more updates")
        training.eventually(lambda: training.stderr.count("connected to") >= 3, "a client that is started again")
        before = num_updates(tmp_path)
        training.eventually(partial(has_learned_more, tmp_path, before), "more updates")
        training.send(signal.SIGTERM)
        assert training.wait() == 0
        assert "lease resumed" in training.stderr
        assert "Traceback" not in training.stderr
        training.assert_alone()
    lines = learned(tmp_path)
    assert max(line["policy_lag_max"] for line in lines) == 0
    assert max(line["abs_log_rho_max"] for line in lines) < 1e-4
    assert lines[-1]["gradient_norm"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_environment_and_one_seed_give_one_run(tmp_path: Path) -> None:
    """Processes, sockets and threads between, and yet every episode comes out the same while the policy learns."""
    options = (
        *("--preset", "cartpole", "--algorithm", "a2c", "--unroll-length", 5, "--num-envs", 1, "--num-clients", 1),
        *("--round-patience-s", 600),  # on a machine that stands still for seconds, no round may end early
    )
    runs = []
    for name in ("first", "again"):
        limited = ("--max-steps", 1500, "--device", "cpu", "--run-dir", tmp_path / name)
        run("train", *options, *limited, within_s=240.0).assert_well()
        checkpoint = load_newest(tmp_path / name / "checkpoints")
        assert checkpoint is not None
        state = RunState.from_checkpoint(checkpoint)
        assert state.updates > 200
        assert state.episodes["num_episodes"] < 100, "the window holds them all"
        runs.append(state.episodes["episodes"])
    num_common = min(map(len, runs))
    assert num_common > 20
    assert runs[0][:num_common] == runs[1][:num_common]


@pytest.mark.slow
@pytest.mark.timeout(400)  # three programs one after the other, each half a minute from its start on a crowded machine
def test_a_client_lives_through_a_restart_with_another_algorithm(tmp_path: Path) -> None:
    """It never knew which one ran."""
    options = ("--preset", "catch", *FAST)
    port = "0"
    with contextlib.ExitStack() as stack:
        client: Program | None = None
        for algorithm in ("vtrace", "a2c"):
            run_dir = tmp_path / algorithm
            with Program("server", *options, "--algorithm", algorithm, "--port", port, "--run-dir", run_dir) as server:
                port = server.address.rpartition(":")[2]
                if client is None:
                    client = stack.enter_context(Program("env", "--server", server.address, "--num-envs", 8))
                server.eventually(partial(num_updates, run_dir), "updates")
                server.send(signal.SIGTERM)
                assert server.wait() == 0
        assert client is not None
        assert client.process.poll() is None
        client.send(signal.SIGTERM)
        assert client.wait() == 0
        assert "Traceback" not in client.stderr
