"""The benchmark's arithmetic, and that its parts measure what they say: short runs of each."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seedbed.common.options import override
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.env_client.environments.building import describe
from tests.bench import components, replicas, steady
from tests.bench.accounting import Snapshot, ThreadTime, role
from tests.bench.bound import Costs, bound_of
from tests.bench.components import (
    Cost,
    EnvironmentAlone,
    Stopwatch,
    inference_batch,
    num_clients,
    rows_per_message,
    synthetic_id,
)
from tests.bench.policy import PolicyAlone
from tests.bench.programs import Program
from tests.bench.replay import measure_replay
from tests.bench.report import summarise, table
from tests.bench.statistics import drift, medians, slope
from tests.bench.system import Moment, between
from tests.bench.wire import TransportAlone, TransportCost
from tests.reference.configs import preset_config

SMALL = {"fleet.num_envs": 4, "fleet.num_greedy_envs": 0, "fleet.num_clients": 2, "learning.batch_size": 2}
CATCH = preset_config("catch", "vtrace", SMALL)

ONE = {"frontends": 1, "torch_threads": 1}


def costs(scale: float = 1.0) -> Costs:
    """Parts that add up to 100 us, of which 10 do not count, and of which the environment has most."""
    parts = {"environment": 40, "inference": 15, "training": 30, "hand_over": 10}
    transport = TransportCost(client=2, frontend=2.5 * scale, device=0.5)
    return Costs({name: Cost(value * scale, 2 * value * scale) for name, value in parts.items()}, transport)


def test_medians_take_each_name_by_itself() -> None:
    samples = [{"a": 1.0, "b": 5.0}, {"a": 9.0}, {"a": 2.0, "b": 7.0}]
    assert medians(samples) == {"a": 2.0, "b": 6.0}


def test_slope_and_drift() -> None:
    assert slope([1, 2, 4], [5, 7, 11]) == pytest.approx(2)
    assert slope([0, 1, 2, 3], [0, 1, -1, 0]) == pytest.approx(-0.2)
    assert slope([1, 1], [2, 3]) == 0
    assert drift([10, 10, 99, 0, 9, 9]) == pytest.approx(-0.1)
    assert drift([1, 2]) == 0


def test_cpu_bound_is_all_cores_over_the_sum_of_what_counts() -> None:
    bound = bound_of(costs(), cores=2, device="cpu", **ONE)
    assert bound.agent_steps_per_s == pytest.approx(2e6 / (40 + 15 + 30 + 5))
    assert bound.stage == "cores"


def test_one_learner_bounds_many_cores() -> None:
    bound = bound_of(costs(), cores=4, device="cpu", **ONE)
    assert (bound.stage, bound.agent_steps_per_s) == ("training", pytest.approx(1e6 / 30))
    assert bound_of(costs(), cores=4, device="cpu", frontends=1, torch_threads=2).stage == "cores"


@pytest.mark.parametrize(
    ("cores", "environment_us", "stage", "rate"),
    [
        (64, 20, "training", 1e6 / 60),  # by the clock, not by its CPU time
        (8, 2000, "cores", 8e6 / 2050),
        (1, 20, "cores", 1e6 / 70),
    ],
)
def test_gpu_bound_is_the_slowest_stage(cores: int, environment_us: float, stage: str, rate: float) -> None:
    parts = {**costs().parts, "environment": Cost(environment_us, environment_us)}
    bound = bound_of(Costs(parts, costs().transport), cores=cores, device="cuda", **ONE)
    assert (bound.stage, bound.agent_steps_per_s) == (stage, pytest.approx(rate))


def test_more_frontends_lift_their_bound() -> None:
    slow = Costs(costs().parts, TransportCost(client=1, frontend=400, device=1))
    assert bound_of(slow, cores=64, device="cuda", **ONE).stage == "frontend"
    assert bound_of(slow, cores=64, device="cuda", frontends=8, torch_threads=1).stage == "training"


def system(rate: float) -> dict[str, Any]:
    return {
        "agent_steps_per_s": rate,
        "cpu_us_per_step": {"client": 60.0, "device": 120.0},
        "threads_cpu_us_per_step": {"device": {"learner": 80.0, "main": 0.1}},
        "memory_mib": {"client": 10.0},
        "cores_used": 1.5,
        "cores_used_by_others": 0.0,
        "policy_lag_mean": None,
    }


def test_efficiency_pairs_each_run_with_the_parts_around_it() -> None:
    """The machine slows down all along: each measurement of the parts has another value and must be seen to count."""
    first, between_runs, last = costs(1.0), costs(1.5), costs(2.0)
    rounds = [(first, system(11111), between_runs), (between_runs, system(5699), last)]
    figures = summarise(rounds, cores=2, device="cpu", **ONE)
    bounds = [(2e6 / 90 + 2e6 / 133.75) / 2, (2e6 / 133.75 + 2e6 / 177.5) / 2]
    assert figures["efficiencies"] == pytest.approx([11111 / bounds[0], 5699 / bounds[1]])
    assert figures["efficiency"] == pytest.approx(sum(figures["efficiencies"]) / 2)
    assert figures["cpu_efficiency"] == pytest.approx(((90 + 133.75) / 360 + (133.75 + 177.5) / 360) / 2)
    assert figures["times_one_core_environment"] == pytest.approx((11111 * 50e-6 + 5699 * 70e-6) / 2)
    assert figures["bound_agent_steps_per_s"] == pytest.approx(2e6 / 133.75)
    assert figures["components_cpu_us"]["environment"] == pytest.approx(60)
    assert figures["components_wall_us"]["environment"] == pytest.approx(120)
    assert figures["transport_cpu_us"]["frontend"] == pytest.approx(3.75)


def test_table_says_what_each_part_holds_and_warns_of_company() -> None:
    busy = {**system(5000), "cores_used_by_others": 0.5}
    figures = summarise([(costs(), busy, costs())], cores=2, device="cpu", **ONE)
    text = table(figures, CATCH, rows=3, batch=7, train_batch="2 unrolls")
    assert "7 rows a batch" in text
    assert "not in the bound" in text
    assert "learner 80.0" in text
    assert "is too low" in text
    quiet = summarise([(costs(), system(5000), costs())], cores=2, device="cpu", **ONE)
    assert "is too low" not in table(quiet, CATCH, rows=3, batch=7, train_batch="2 unrolls")


def test_a_replay_has_a_line_of_its_own() -> None:
    figures = summarise([(costs(), system(5000), costs())], cores=2, device="cpu", **ONE)
    assert "replay:" not in table(figures, CATCH, rows=3, batch=7, train_batch="2 unrolls")
    figures["replay"] = {"inserts_per_s": 12000.4, "samples_per_s": 9876, "replay_share_of_update": 0.0234}
    text = table(figures, CATCH, rows=3, batch=7, train_batch="2 unrolls")
    assert "replay: 12,000 inserts/s, 9,876 unrolls drawn/s" in text
    assert "2.3% of an update" in text


def test_messages_are_half_of_a_client_and_batches_one_message_of_each() -> None:
    pong = preset_config("pong", "vtrace", {"fleet.num_clients": 2})
    assert (num_clients(pong), rows_per_message(pong), inference_batch(pong)) == (2, 16, 32)
    odd = override(pong, {"fleet.num_envs": 7, "fleet.num_clients": 2})
    assert (rows_per_message(odd), inference_batch(odd)) == (2, 4)
    assert inference_batch(override(pong, {"serving.max_inference_batch": 20})) == 20


def test_synthetic_environment_is_as_large_as_the_real_one() -> None:
    action = ArraySpec(name="action", dtype="int64", low=(0,), high=(4,), kind="discrete")
    for arrays in (
        (ArraySpec(name="o", dtype="float32", shape=(3, 2)),),
        (ArraySpec(name="o", dtype="float32"),),
        (ArraySpec(name="a", dtype="uint8", shape=(84, 84)), ArraySpec(name="b", dtype="float32", shape=(5,))),
    ):
        spec = EnvironmentSpec(environment="x", observations=arrays, actions=(action,))
        synthetic = describe(synthetic_id(spec), "")
        assert sum(array.row_bytes for array in synthetic.observations) == sum(array.row_bytes for array in arrays)
        assert synthetic.num_actions == 5
    box = ArraySpec(name="action", dtype="float32", shape=(3,), low=(-1,), high=(1,))
    assert describe(synthetic_id(replace(spec, actions=(box,))), "").num_actions == 2


def test_processes_are_told_apart_by_their_command() -> None:
    assert role("python -m seedbed.env_client --server x") == "client"
    assert role("python -c from multiprocessing.spawn import spawn_main; spawn_main()") == "frontend"
    assert role("python -c from multiprocessing.resource_tracker import main") == "helper"
    assert role("python .venv/bin/seedbed train") == "device"


def test_cpu_time_is_that_of_each_thread() -> None:
    stop = threading.Event()
    busy = threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)])
    idle = threading.Thread(target=stop.wait)
    before = Snapshot.of([os.getpid()])
    busy.start()
    idle.start()
    deadline_s = time.monotonic() + 30
    while (spent := Snapshot.of([os.getpid()]).since(before)) and time.monotonic() < deadline_s:
        if any(time.cpu_s > 0.05 for (_, tid), time in spent.items() if tid == busy.native_id):
            break
    stop.set()
    busy.join()
    idle.join()
    assert busy.native_id is not None
    assert idle.native_id is not None
    assert spent[os.getpid(), busy.native_id].cpu_s > 10 * spent[os.getpid(), idle.native_id].cpu_s
    assert Snapshot.of([2**22 + 1]).threads == {}  # larger than any process id


def test_between_divides_by_the_steps_of_the_window() -> None:
    def moment(wall_s: float, steps: int, cpu_s: float, busy_s: float) -> Moment:
        metrics = {"wall_s": wall_s, "agent_steps": steps, "updates": steps // 10, "policy_lag_mean": 2.0}
        times = {(1, 1): ThreadTime("python", 0.001), (1, 2): ThreadTime("learner", cpu_s), (5, 5): ThreadTime("x", 1)}
        commands = {1: "seedbed train", 5: "python -m seedbed.env_client"}
        return Moment(
            metrics | {"inference_batch_mean": 9}, Snapshot(times), commands, {1: 2**21, 5: 2**20}, {}, busy_s
        )

    figures = between(moment(10, 1000, 1.0, 50), moment(14, 5000, 3.0, 58))
    assert figures["agent_steps_per_s"] == 1000
    assert figures["updates_per_s"] == 100
    assert figures["cpu_us_per_step"] == {"device": pytest.approx(500), "client": 0}
    assert figures["threads_cpu_us_per_step"]["device"] == {"main": 0, "learner": pytest.approx(500)}
    assert (figures["cores_used"], figures["cores_used_by_others"]) == (pytest.approx(0.5), pytest.approx(1.5))
    assert figures["memory_mib"] == {"device": 2, "client": 1}


def test_stopwatch_counts_only_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"cpu": 0.0, "wall": 0.0}
    monkeypatch.setattr(components.time, "process_time", lambda: now["cpu"])
    monkeypatch.setattr(components.time, "perf_counter", lambda: now["wall"])

    def work(cpu_s: float, wall_s: float) -> None:
        now["cpu"] += cpu_s
        now["wall"] += wall_s

    watch = Stopwatch(synchronise=lambda: work(0, 1))
    work(100, 100)
    for _ in range(2):
        with watch.running():
            work(2, 3)
        work(100, 100)
    cost = watch.per_step(10)
    assert (cost.cpu_us, cost.wall_us) == (pytest.approx(0.4e6), pytest.approx(0.8e6))


@pytest.mark.parametrize("algorithm", ["vtrace", "a2c", "apex", "sac"])
def test_policy_alone_trains_on_every_step(algorithm: str) -> None:
    ratio = {"algorithm_options.replay.samples_per_insert": 4.0} if algorithm == "apex" else {}
    if algorithm == "sac":
        ratio = {"algorithm_options.replay.updates_per_step": 0.1}
    config = preset_config("catch", algorithm, {**SMALL, **ratio})
    policy = PolicyAlone(config, describe("seedbed/Catch-v0", ""))
    found = policy.measure(0.05)
    assert set(found) == {"inference", "hand_over", "training"}
    assert all(cost.cpu_us > 0 for cost in found.values())


def test_updates_alone_are_as_many_as_the_ratio_asks_for() -> None:
    config = preset_config("pendulum", "sac", {"algorithm_options.replay.updates_per_step": 0.5})
    policy = PolicyAlone(config, describe("Pendulum-v1", ""))
    assert policy.train_batch == "128 transitions, stored in unrolls of 9 rows"
    before = policy.learner.num_updates
    for _ in range(3):
        policy._period()
    assert policy.learner.num_updates - before == 3 * 8 * config.fleet.num_envs * 0.5
    found = measure_replay(policy, 0.02)
    assert found["update_priorities_us_per_batch"] == 0
    assert found["samples_per_s"] > 0


def test_what_a_replay_costs_is_told_beside_the_update() -> None:
    policy = PolicyAlone(preset_config("catch", "apex", SMALL), describe("seedbed/Catch-v0", ""))
    found = measure_replay(policy, 0.02)
    assert found["capacity"] == len(policy.queue) == 1000
    assert found["samples_per_s"] == pytest.approx(1e6 * found["batch_size"] / found["sample_us_per_batch"])
    spent = found["sample_us_per_batch"] + found["update_priorities_us_per_batch"]
    assert found["replay_share_of_update"] == pytest.approx(spent / found["learner_update_us_per_batch"])
    assert 0 < found["replay_share_of_update"] < 1


@pytest.mark.parametrize("environment_id", ["seedbed/Catch-v0", "Pendulum-v1"])
def test_environment_alone_counts_agent_steps_only(environment_id: str) -> None:
    environment = EnvironmentAlone(CATCH, environment_id)
    assert environment.measure(0.05).cpu_us > 0
    environment.close()


@pytest.mark.system
def test_transport_alone_splits_what_it_costs() -> None:
    cost = TransportAlone(CATCH, describe("seedbed/Catch-v0", "")).measure(0.5)
    assert min(cost.client, cost.frontend, cost.device) > 0
    assert cost.total.cpu_us == pytest.approx(cost.client + cost.frontend + cost.device)


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    with (
        Program((sys.executable, "-c", "raise SystemExit('no luck')")) as program,
        pytest.raises(RuntimeError, match="no luck"),
    ):
        program.address()


def test_steady_reports_the_growth_of_processes_that_lived_to_the_end() -> None:
    def moment(minute: int, steps: int, rss_mib: dict[int, float]) -> Moment:
        names = ("updates", "policy_lag_mean", "inference_batch_mean")
        metrics = {"wall_s": 60.0 * minute, "agent_steps": steps, **dict.fromkeys(names, 0)}
        rss = {pid: int(size * 2**20) for pid, size in rss_mib.items()}
        cpu = Snapshot({(1, 1): ThreadTime("main", 0.6 * minute)})
        return Moment(metrics, cpu, {1: "seedbed train"}, {}, rss, 0.0)

    sizes = [10, 90, 100, 102, 104, 106]  # the first two are what it allocates at its start
    rates = [600, 600, 600, 540, 540]
    moments = [moment(i, sum(rates[:i]), {1: size} | ({2: 5.0} if i < 3 else {})) for i, size in enumerate(sizes)]
    figures = steady.summarise(moments)
    assert figures["steps_per_s"] == pytest.approx(9.6)
    assert figures["steps_per_s_drift"] == pytest.approx(-0.1)
    assert figures["cpu_us_per_step_drift"] == pytest.approx(1 / 0.9 - 1)
    assert set(figures["processes"]) == {"device 1"}
    assert figures["processes"]["device 1"]["mib_per_minute"] == pytest.approx(2)


def test_several_learners_are_compared_by_medians() -> None:
    numbers = {"agent_steps_per_s": 1.0, "updates_per_s": 1.0, "update_ms": 1.0, "batch_share": 1.0, "wait_share": 0.0}
    costs = [(1, 90.0), (2, 105.0), (1, 100.0), (2, 110.0), (1, 500.0), (2, 120.0)]
    windows = [
        {
            **{"learners": learners, "cpu_us_per_step": cost, "policy_lag_mean": 2.0, **numbers},
            "threads": {"device learner": cost / 2, "client main": 0.1},
        }
        for learners, cost in costs
    ]
    rows = replicas.summarise(windows)
    assert [(row["learners"], row["cpu_us_per_step"], row["relative_cpu"]) for row in rows] == [
        (1, 100.0, 1.0),
        (2, 110.0, 1.1),
    ]
    assert "1.10" in replicas.table(rows)
    *_, learner = replicas.threads_table(rows).splitlines()
    assert learner.split() == ["device", "learner", "50.0", "55.0"], "what is next to nothing has no line"


@pytest.mark.slow
def test_collectives_alone() -> None:
    found = replicas.collectives(2, 1000)
    assert found["transfer_ms"] > 0
    assert found["meeting_ms"] > 0
