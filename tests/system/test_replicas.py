"""Several learners of one run, as processes: one run directory, one end, and what becomes of it when something dies."""

from __future__ import annotations

import contextlib
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from seedbed.server.run.checkpoint import load_newest
from seedbed.server.training.place import STORE_VARIABLE
from tests.system.namespaces import Cable, Machine, missing_rights
from tests.system.processes import Program, is_alive, read_metrics, run
from tests.system.replica_runs import CATCH, LONG, clients_of, newest, replicas, state_of, trains

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]  # several starts of several servers each

BACK_S = 30.0
"""From the death of a replica to training past where it stood, on a machine that is not busy; see `_patience`."""


@contextlib.contextmanager
def training(run_dir: Path, *more: str | float, learners: int = 2) -> Iterator[Program]:
    """A run that goes on until it is told to stop."""
    with Program(*LONG, "--learners", learners, "--run-dir", run_dir, *more) as program:
        trains(program, run_dir, 20, learners)
        yield program


def starts_again(program: Program, learners: int = 2) -> None:
    """Waits until all serve once more: what metrics say from then on is of the new start."""
    program.eventually(lambda: "starting all again" in program.stderr, "another start")
    program.eventually(lambda: program.stderr.count("serving on") >= 2 * learners, "servers that serve again")


def ends_well(program: Program) -> None:
    """Told to stop, it saves and leaves nothing."""
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    program.assert_alone()
    assert "Traceback" not in program.stderr


def addresses(processes: list[psutil.Process]) -> set[str]:
    """At which they listen."""
    found: set[str] = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found |= {
                c.laddr.ip.removeprefix("::ffff:")
                for c in process.net_connections("tcp")
                if c.status == psutil.CONN_LISTEN
            }
    return found


def test_two_learners_make_one_run(tmp_path: Path) -> None:
    """From start to stop condition: totals, a line for each, one checkpoint, nothing that listens beyond loopback."""
    run_dir = tmp_path / "run"
    with Program(*CATCH, "--max-steps", 6000, "--learners", 2, "--run-dir", run_dir) as program:
        trains(program, run_dir, 3, 2)
        assert addresses(program.children()) == {"127.0.0.1"}
        assert program.wait() == 0
        program.assert_alone()
        stderr = program.stderr
    line, state = newest(run_dir), state_of(run_dir)
    assert state.finished == "reached 6,000 agent steps"
    assert state.agent_steps >= 6000
    assert line["replicas"] == 2
    rejected = {one["replica_rejected"] for one in read_metrics(run_dir) if "replica_rejected" in one}
    assert rejected == {0}, "lines of intervals with an update have it"
    other = read_metrics(run_dir / "replicas" / "1")[-1]
    assert {line["updates"], other["updates"]} == {state.updates}, "all end after the same update"
    assert {line["agent_steps"], other["agent_steps"]} == {state.agent_steps}
    assert not (run_dir / "replicas" / "1" / "checkpoints").exists()
    assert "learner 1  " in stderr
    assert f"go on     seedbed train --learners 2 --run-dir {run_dir} --max-steps 12000" in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_a_replica_that_is_killed(tmp_path: Path) -> None:
    """The first one saves what all have learnt; all go on from there, within seconds."""
    run_dir = tmp_path / "run"
    with training(run_dir) as program:
        killed_s, updates = time.monotonic(), newest(run_dir)["updates"]
        replicas(program)[1].kill()
        trains(program, run_dir, updates + 5, 2)
        assert state_of(run_dir).updates >= updates, "no whole update was lost"
        took_s = time.monotonic() - killed_s
        assert took_s < BACK_S * max(1.0, psutil.getloadavg()[0] / 2), f"training went on after {took_s:.1f} s"
        assert "0: 75, 1: -9; starting all again" in program.stderr
        ends_well(program)


@pytest.mark.slow
def test_the_first_replica_is_killed(tmp_path: Path) -> None:
    """Nobody saves: the run goes on from its last checkpoint."""
    run_dir = tmp_path / "run"
    with training(run_dir, "--checkpoint-interval-s", 1) as program:
        program.eventually(lambda: (run_dir / "checkpoints").is_dir() and load_newest(run_dir / "checkpoints"), "one")
        saved = state_of(run_dir).updates
        replicas(program)[0].kill()
        starts_again(program)
        trains(program, run_dir, saved, 2)
        ends_well(program)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_replica_ends_all_in_order(tmp_path: Path, rank: int) -> None:
    run_dir = tmp_path / "run"
    with training(run_dir) as program:
        replicas(program)[rank].send_signal(signal.SIGTERM)
        assert program.wait() == 0
        program.assert_alone()
        state = state_of(run_dir)
        assert read_metrics(run_dir)[-1]["updates"] <= state.updates
        assert "starting all again" not in program.stderr
    done = run(*CATCH, "--max-steps", state.agent_steps + 3000, "--learners", 3, "--run-dir", run_dir)
    done.assert_well()
    assert newest(run_dir)["replicas"] == 3, "another number of learners goes on with it"
    assert state_of(run_dir).updates > state.updates


@pytest.mark.slow
def test_a_replica_without_clients_stops_nobody_and_comes_back(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with training(run_dir, "--replica-patience-s", 2) as program:
        clients = clients_of(replicas(program)[1])
        assert clients
        for client in clients:
            client.suspend()
        updates = newest(run_dir)["updates"]

        def alone() -> bool:
            line = newest(run_dir)
            return line["updates"] > updates + 5 and line["replica/1/batch_share"] == 0

        program.eventually(alone, "updates without it")
        for client in clients:
            client.resume()
        trains(program, run_dir, newest(run_dir)["updates"], 2)
        ends_well(program)


@pytest.mark.slow
def test_a_replica_that_freezes_for_a_while(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with training(run_dir) as program:
        child = replicas(program)[1]
        child.suspend()
        time.sleep(5)
        updates = newest(run_dir)["updates"]
        child.resume()
        trains(program, run_dir, updates + 5, 2)
        assert "starting all again" not in program.stderr
        ends_well(program)


@pytest.mark.slow
def test_a_replica_that_freezes_for_good(tmp_path: Path) -> None:
    """The others take it for dead, and save; whoever started it ends it, and starts all again."""
    run_dir = tmp_path / "run"
    with training(run_dir, "--replica-timeout-s", 4) as program:
        updates = newest(run_dir)["updates"]
        replicas(program)[1].suspend()
        starts_again(program)
        assert "one of them is gone" in program.stderr
        assert state_of(run_dir).updates >= updates
        trains(program, run_dir, updates + 5, 2)
        ends_well(program)


@pytest.mark.slow
def test_gossip_waits_for_nobody(tmp_path: Path) -> None:
    """One stands still while the other goes on; killed, it is missed by nobody; another start goes on from what each
    has saved.
    """
    run_dir = tmp_path / "run"
    with training(run_dir, "--exchange", "gossip", "--checkpoint-interval-s", 1) as program:
        program.eventually(lambda: (run_dir / "replicas/1/checkpoints").is_dir(), "a checkpoint of its own")
        child, updates = replicas(program)[1], newest(run_dir)["updates"]
        child.suspend()
        program.eventually(lambda: newest(run_dir)["updates"] > updates + 20, "updates without it", 30)
        child.resume()
        trains(program, run_dir, updates, 2)
        child.kill()
        killed_s = time.monotonic()
        program.eventually(lambda: "going on with learner 0: " in program.stderr, "word that one is gone", 60)
        updates = newest(run_dir)["updates"]
        program.eventually(lambda: newest(run_dir)["updates"] > updates + 20, "updates without it", 60)
        print(f"went on within {time.monotonic() - killed_s:.1f} s")
        assert newest(run_dir)["live_rows_min"] == 0
        assert "starting all again" not in program.stderr
        ends_well(program)
    updates = state_of(run_dir).updates
    with training(run_dir, "--exchange", "gossip") as program:
        trains(program, run_dir, updates + 20, 2)
        ends_well(program)
    own = state_of(run_dir / "replicas" / "1")
    assert own.learner is not None
    first = state_of(run_dir).learner
    assert first is not None
    assert own.learner["num_updates"] != 0
    assert any("gossip_distance" in line for line in read_metrics(run_dir))


@pytest.mark.slow
def test_a_parameter_server_loses_a_learner(tmp_path: Path) -> None:
    """The others go on from what the first had, and what AdaGrad has summed up is in the checkpoint."""
    run_dir = tmp_path / "run"
    options = ("--exchange", "parameter_server", "--algorithm", "n_step_q", "--num-greedy-envs", 2)
    with training(run_dir, *options, "--checkpoint-interval-s", 1, learners=3) as program:
        program.eventually(lambda: (run_dir / "checkpoints").is_dir() and load_newest(run_dir / "checkpoints"), "one")
        updates = state_of(run_dir).updates
        replicas(program)[2].kill()
        starts_again(program, 3)
        trains(program, run_dir, updates + 20, 3)
        ends_well(program)
    state = state_of(run_dir)
    assert state.learner is not None
    assert float(state.learner["exchange"]["squares"].sum()) > 0
    assert state.updates >= updates
    line = next(
        one for one in reversed(read_metrics(run_dir)) if "gradient_applied" in one
    )  # an interval with an update
    assert line["gradient_applied"] + line["gradient_too_old"] + line["gradient_outlier"] == pytest.approx(1)


@pytest.mark.slow
def test_whoever_started_the_replicas_is_killed(tmp_path: Path) -> None:
    """They save and leave, though nobody tells them."""
    run_dir = tmp_path / "run"
    with training(run_dir) as program:
        children = list(replicas(program).values())
        program.process.kill()
        program.process.wait()
        deadline_s = time.monotonic() + 60
        while any(map(is_alive, children)):
            assert time.monotonic() < deadline_s, "they live on"
            time.sleep(0.1)
        assert state_of(run_dir).updates >= 20


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "r2d2"])
def test_rounds_and_replays(tmp_path: Path, algorithm: str) -> None:
    """A few updates of each regime, a client of one replica killed meanwhile, and the same end for all."""
    run_dir = tmp_path / "run"
    more = {"r2d2": ("--replay-min-size", 20), "ppo": ("--unroll-length", 8)}.get(
        algorithm, ()
    )  # rounds that are short
    with training(run_dir, "--algorithm", algorithm, *more) as program:
        clients_of(replicas(program)[1])[0].kill()
        trains(program, run_dir, newest(run_dir)["updates"] + 10, 2)
        ends_well(program)
        state = state_of(run_dir)
    assert read_metrics(run_dir / "replicas" / "1")[-1]["updates"] <= state.updates


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "algorithm"), [("catch", "vtrace"), ("cartpole", "vtrace"), ("catch", "ppo")])
def test_two_learners_learn(tmp_path: Path, preset: str, algorithm: str) -> None:
    """To the preset's target."""
    options = ("--num-envs", 8, "--num-clients", 1, "--dashboard-port", "off", "--device", "cpu")
    done = run(
        *("train", "--preset", preset, "--algorithm", algorithm, *options),
        *("--learners", 2, "--run-dir", tmp_path / "run"),
        within_s=380,
    )
    done.assert_well()
    assert "mean return" in (state_of(tmp_path / "run").finished or "")


@pytest.mark.slow
def test_a_slow_replica_is_named_by_the_waiting_of_the_others(tmp_path: Path) -> None:
    """Environments of learner 1 take five times as long: all go at its pace, and only it waits for nobody."""
    kwargs = '{"step_ms": 1, "slow_rank": 1, "slowness": 5}'
    run_dir = tmp_path / "run"
    with training(run_dir, "--env", "tests.bench.paced:make", "--env-kwargs", kwargs) as program:
        updates = newest(run_dir)["updates"]
        trains(program, run_dir, updates + 20, 2)
        lines = read_metrics(run_dir)[-5:]
        shares = [statistics.median(line[f"replica/{rank}/wait_share"] for line in lines) for rank in range(2)]
        assert shares[0] > shares[1] + 0.2
        assert newest(run_dir)["replica/0/batch_share"] == newest(run_dir)["replica/1/batch_share"] == 1
        ends_well(program)


@pytest.mark.slow
def test_a_network_that_is_split(tmp_path: Path) -> None:
    """Nobody is told: both sides end by the time-out, the first learner's with all that was learnt; then they go on."""
    if reason := missing_rights():
        pytest.skip(reason)
    run_dir = tmp_path / "run"

    def start(machine: Machine, rank: int, attempt: int) -> Program:
        environment = {
            **{"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},
            **{STORE_VARIABLE: str(tmp_path / f"store-{attempt}"), "GLOO_SOCKET_IFNAME": "cable"},
        }
        options = ("--run-dir", run_dir, "--replica-timeout-s", 4, "--insecure-cluster-network")
        return Program(*LONG, *options, environment=environment, prefix=machine.prefix)

    with Cable() as cable, contextlib.ExitStack() as stack:
        pair = [stack.enter_context(start(cable.server, 0, 0)), stack.enter_context(start(cable.client, 1, 0))]
        trains(pair[0], run_dir, 10, 2)
        with cable.unplugged():
            updates = newest(run_dir)["updates"]
            assert [program.wait() for program in pair] == [75, 75]
        for program in pair:
            assert "expected all learners of the run, one of them is gone" in program.stderr
            program.assert_alone()
        assert state_of(run_dir).updates >= updates, "no whole update was lost"
        pair = [stack.enter_context(start(cable.server, 0, 1)), stack.enter_context(start(cable.client, 1, 1))]
        trains(pair[0], run_dir, updates + 5, 2)
        pair[1].send(signal.SIGTERM)
        assert [program.wait() for program in pair] == [0, 0]
