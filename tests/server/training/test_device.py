"""The GPU path on a simulated device: nothing mixed, few waits, few launches, no races, the CPU's numbers.

What only a real GPU shows (kernels, time, memory) is measured by `make gpu`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.common.options import override
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.frames import StackIndex, copy_rows, in_words, select_rows
from seedbed.server.experience.replay import Replay
from seedbed.server.experience.stored_unrolls import Marker
from seedbed.server.inference import parameters
from seedbed.server.learning.learner import Learner
from seedbed.server.run.replay_files import ReplayFiles
from seedbed.server.run.state import RunState
from tests.reference.device import Device, Stream, simulated_device
from tests.reference.device_cases import CASES, TABLE, THREADED, count, turns_of
from tests.reference.device_streams import Event
from tests.reference.device_world import DeviceWorld, make_config

FAST = ("vtrace conv lstm graphs", "ppo conv lstm", "r2d2 vector trxl", "td3 vector none", "one_step_q vector none")
FAST_PARITY = ("vtrace conv lstm", "ppo vector none", "sac vector none")
_SUMS = ("moments", "normaliser", "risk", "value_head")
DOUBLE = {*(f"server/networks/{name}.py" for name in _SUMS), "server/learning/learner.py"}
"""Files whose numbers are float64 on purpose: sums over millions of transitions."""

EXPECTED: Mapping[str, Mapping[str, Mapping[str, float]]] = json.loads(TABLE.read_text())


@pytest.fixture
def device() -> Iterator[Device]:
    """The simulated device in the place of CUDA."""
    torch.set_num_threads(1)
    with simulated_device(*THREADED) as made:
        yield made


def _fast(names: tuple[str, ...]) -> list[Any]:
    return [pytest.param(case, marks=() if case in names else pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize("case", _fast(FAST))
def test_launches_and_waits_are_those_of_the_table(case: str) -> None:
    found, expected = count(case), EXPECTED[case]
    assert found["waits"] == pytest.approx(expected["waits"], abs=0.02), "a host waits for the device at a new place"
    for phase, launches in found["launches"].items():
        assert launches == pytest.approx(expected["launches"][phase], rel=0.1, abs=1), phase


@pytest.mark.parametrize("case", _fast(FAST_PARITY))
def test_an_update_is_that_of_the_cpu_and_nothing_races(case: str, device: Device) -> None:
    assert_update_of_the_cpu(device, case)


@pytest.mark.parametrize(
    "case", ["vtrace vector lstm", "sac vector none", pytest.param("r2d2 conv lstm", marks=pytest.mark.slow)]
)
def test_a_replayed_update_is_that_of_the_cpu_and_one_launch(case: str, device: Device) -> None:
    """And optimiser, statistics, target network and metrics are those of an update as it is."""
    more = {"optimiser__update_graphs": True, "optimiser__optimiser": "adam"}
    world = assert_update_of_the_cpu(device, case, **more)
    assert device.captures == 1
    batch, learner = world.batches[-1], world.parts.learner
    world.forget()
    with device.host("learner"):
        learner.update(batch, 0.5)
    assert device.operations["update", "graph", "server/learning/graphed_update.py GraphedUpdate.__call__"] == 1
    assert device.launches["update"] < 50, "copies of batch and results, lag, rates and target network"
    rates = {group["lr"].item() for optimiser in learner._steps.optimisers.values() for group in optimiser.param_groups}
    assert max(rates) < config_of(case, **more).optimiser.learning_rate


def config_of(case: str, **more: Any) -> Any:
    """Of a case, with changes."""
    return make_config(**CASES[case] | more)[0]


def assert_update_of_the_cpu(device: Device, case: str, **more: Any) -> DeviceWorld:
    """Runs a case, and makes its last update again on the CPU."""
    config, spec = make_config(**CASES[case] | more)
    world = DeviceWorld(device, config, spec)
    learner, seen = world.parts.learner, list[tuple[Any, TrainBatch, Tensor, Any]]()
    update = learner.update

    def watched(batch: TrainBatch, progress: float) -> Any:
        if seen and case.startswith("ald"):  # unrolls that it learns from again are no part of its state: the first one
            return update(batch, progress)
        before, random = world.loop.snapshot(), torch.get_rng_state()
        result = update(batch, progress)
        seen[:] = [(before, _on_host(batch), random, world.loop.snapshot())]
        world.batches.append(batch)
        return result

    learner.update = watched  # type: ignore[method-assign]
    world.run(10 + turns_of(case))
    assert_clean(device)
    (before, batch, random, after) = seen[0]
    cpu = Learner(world.parts.algorithm, config.optimiser, torch.device("cpu"))
    cpu.set_state(before)
    torch.set_rng_state(random)
    cpu.update(batch, 0.1)
    atol = 3e-5 if case.startswith("ald") else 1e-6  # a first step divides each gradient by itself, the smallest too
    for name, ours in cpu.learnt.state_dict().items():
        torch.testing.assert_close(after["learnt"][name], ours, rtol=1e-4, atol=atol, msg=name)
    if cpu.target is not None:
        for name, ours in cpu.target.state_dict().items():
            torch.testing.assert_close(after["target"][name], ours, rtol=1e-4, atol=1e-6, msg=name)
    return world


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        ("vtrace", {}),
        ("a2c", {"fleet__num_greedy_envs": 4}),
        ("ppo", {"fleet__num_greedy_envs": 4, "core": "lstm"}),
        ("vtrace", {"serving__cuda_graphs": True, "image": True, "core": "lstm"}),
        ("r2d2", {"algorithm_options__replay__replay_device": "cpu", "core": "lstm"}),
        ("vtrace", {"slow": True}),
    ],
    ids=["queue", "greedy rounds", "greedy rounds with a memory", "graphs", "replay on the CPU", "slow"],
)
def test_nothing_races(algorithm: str, more: dict[str, Any], device: Device) -> None:
    device.slow = more.pop("slow", False)
    run_world(device, algorithm, **more)
    assert_clean(device)


def test_graphs_are_recorded_before_anybody_is_answered_and_share_their_memory(device: Device) -> None:
    """A recording holds the whole device up, the learner too."""
    pools, graph = list[Any](), torch.cuda.graph

    def noted(*arguments: Any, pool: Any = None, **more: Any) -> Any:
        pools.append(pool)
        return graph(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "graph", noted)
        world = run_world(device, "vtrace", serving__cuda_graphs=True, core="lstm")
    assert device.captures == world.recorded == len(pools) == 3
    assert len(set(pools)) == 1
    assert None not in pools


def test_a_log_line_waits_once_whatever_number_of_updates_it_sums_up(device: Device) -> None:
    """Once for all metrics, and once for each histogram: the learner is not held up by who looks at it."""
    world = run_world(device, "vtrace")
    world.forget()
    with device.in_phase("log"):
        metrics = world.loop.take_metrics()
        assert sum(device.waits.values()) == 1
        spreads = world.loop.take_spreads()
        assert sum(device.waits.values()) == 1 + len(spreads)
    assert world.loop.trained > 0
    assert {"loss", "gradient_norm", "learning_rate", "policy_lag_max"} <= set(metrics)


def test_whether_a_round_is_overtaken_is_known_without_the_device(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the versions that acted, which the host has written down; they are those that the device has."""
    world = DeviceWorld(device, *make_config("a2c", image=False))
    learner, batches = world.parts.learner, list[tuple[TrainBatch, int]]()
    update = learner.update

    def watched(batch: TrainBatch, progress: float) -> Any:
        batches.append((batch, learner.num_updates))
        return update(batch, progress)

    learner.update = watched  # type: ignore[method-assign]
    world.run(15)
    monkeypatch.setattr(learner.exchange, "joint", True)
    assert len(batches) > 1
    for batch, version in batches:
        recorded = batch.fields["policy_version"].cpu()[:-1][batch.valid.cpu()]
        assert recorded.unique().tolist() == [batch.oldest_version] == [version]
        with device.in_phase("asked"):
            assert learner.is_overtaken(batch)
            learner.num_updates, now = version, learner.num_updates
            assert not learner.is_overtaken(batch)
            learner.num_updates = now
    assert not [place for phase, place in device.waits if phase == "asked"]


def test_a_run_goes_on_on_another_kind_of_device(caplog: pytest.LogCaptureFixture) -> None:
    """From a GPU to the CPU and back: all that was learnt comes along, and only the draws of actions begin anew."""
    caplog.set_level("INFO")
    config, spec = make_config("ppo", image=False, core="lstm")
    state = RunState(agent_steps=50, random=torch.Generator().get_state(), random_device="cpu")
    for kind, code in (("cuda", "cuda:0"), ("cpu", "cpu"), ("cuda", "cuda:0")):
        config = override(config, {"run.device": code})
        with simulated_device(*THREADED) as device:
            caplog.clear()
            world = DeviceWorld(device, config, spec, RunState.from_checkpoint(state.to_checkpoint()))
            assert f"another kind of device ({state.random_device})" in caplog.text
            assert state.learner is None or world.parts.learner.num_updates == state.updates > 0
            world.run(10)
            assert_clean(device)
            updates = world.parts.learner.num_updates
            assert updates > state.updates
            random = world.parts.inference.random_state
            learner = world.loop.snapshot()
        state = RunState(agent_steps=50, updates=updates, random=random, random_device=kind, learner=learner)


def test_frames_of_a_replay_on_the_cpu_are_stacked_on_the_device(device: Device) -> None:
    """So each goes there once, not once for every stack that it is in."""
    world = run_world(device, "r2d2", image=True, algorithm_options__replay__replay_device="cpu")
    replay = world.parts.source
    assert isinstance(replay, Replay)
    storage, places = replay._storage, np.array([0, 3, 3, 5])
    sources = [source for place in places for source in [replay._provenance[place]] if source is not None]
    there = storage.gather(places, sources)
    storage._batch_device = torch.device("cpu")
    here = storage.gather(places, sources)
    for ours, theirs in zip(there.observations, here.observations, strict=True):
        assert ours.device.type == "cuda"
        assert torch.equal(ours.cpu(), theirs)
    assert here.observations[0].shape[2] == 3


@pytest.mark.parametrize(("shape", "numbers"), [((28, 28), 98), ((4, 4, 16), 32), ((5, 5), 25)])
def test_frames_are_copied_eight_bytes_at_a_time_where_they_fit(
    shape: tuple[int, ...], numbers: int, device: Device
) -> None:
    """A number a thread: of 84 x 84 bytes that is an eighth of the threads. What comes out is the same."""
    generator = np.random.default_rng(0)
    host = torch.from_numpy(generator.integers(0, 256, (12, *shape), dtype=np.uint8))
    newest, age = torch.tensor([3, 7, 8, 11]), torch.tensor([0, 1, 2, 9])
    there = host.to("cuda:0")
    assert in_words(there)[0].numel() == numbers
    assert in_words(host) is host
    assert torch.equal(select_rows(there, newest.to("cuda:0")).cpu(), host[newest])
    ours = StackIndex(newest.to("cuda:0"), age.to("cuda:0"), 4).gather(there)
    assert torch.equal(ours.cpu(), StackIndex(newest, age, 4).gather(host))
    new = host.flip(0)[:4]
    copy_rows(there, newest.to("cuda:0"), new.to("cuda:0"))
    assert torch.equal(there.cpu(), host.index_copy(0, newest, new))
    assert_clean(device)


@pytest.mark.parametrize("turns", [7, 13])
def test_a_replay_that_is_saved_at_the_end_has_its_last_rows(turns: int, device: Device, tmp_path: Path) -> None:
    save_replay(device, turns, tmp_path)
    assert_clean(device)


def save_replay(device: Device, turns: int, folder: Path) -> None:
    """Runs, ends all leases in the main thread and writes the replay, as a run that is stopped does."""
    world = DeviceWorld(device, *make_config("apex", image=False))
    world.run(turns)
    world.parts.sink.cut(np.arange(world.parts.slots.num_slots))
    contents = world.parts.source.contents
    assert contents is not None
    ReplayFiles(folder, contents).save(1)


def _no_marker(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Marker, "wait", lambda self: None)


def _no_event(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(parameters, "_record_event", lambda device: None)


def _always_done(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Event, "query", lambda self: True)
    patch.setattr(Event, "wait", lambda self, stream=None: None)


def _no_fetch(patch: pytest.MonkeyPatch) -> None:
    wait = Device.wait
    patch.setattr(Device, "wait", lambda self, place: None if self.phase == "act" else wait(self, place))


def _no_wait_for_staging(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Marker, "wait_on_host", lambda self: None)
    _no_fetch(patch)


def _no_end_of_the_stream(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Stream, "synchronize", lambda self: None)


@pytest.mark.parametrize(
    ("mutate", "algorithm", "more"),
    [
        (_no_marker, "vtrace", {}),
        (_no_event, "vtrace", {}),
        (_always_done, "vtrace", {}),
        (_no_wait_for_staging, "vtrace", {}),
        (_no_wait_for_staging, "a2c", {"fleet__num_greedy_envs": 4}),
    ],
)
def test_an_ordering_that_is_taken_away_is_seen(
    mutate: Callable[[pytest.MonkeyPatch], None], algorithm: str, more: dict[str, Any], device: Device
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        run_world(device, algorithm, **more)
    assert device.races


def test_a_stream_that_nobody_waited_for_at_the_end_is_seen(device: Device, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _no_end_of_the_stream(patch)
        save_replay(device, 13, tmp_path)
    assert device.races


def test_mixed_devices_are_refused(device: Device) -> None:
    ours = torch.zeros(3, device="cuda:0")
    with pytest.raises(RuntimeError, match="on one device"):
        ours + torch.zeros(3)
    assert (ours + 1).cpu().tolist() == [1.0, 1.0, 1.0]
    assert device.waits["-", "tests"] == 1


def run_world(device: Device, algorithm: str, *, turns: int = 15, image: bool = False, **more: Any) -> DeviceWorld:
    """A small run, to its end."""
    world = DeviceWorld(device, *make_config(algorithm, image=image, **more))
    world.run(turns)
    assert world.calls["update"] > 1
    return world


def assert_clean(device: Device) -> None:
    """No races, and nothing that a real device would refuse or be slow with."""
    assert not device.races
    assert not {(fault, at) for fault, at in device.faults if fault != "float64" or at.split()[0] not in DOUBLE}


def _on_host(batch: TrainBatch) -> TrainBatch:
    sample = None if batch.sample is None else replace(batch.sample, weights=batch.sample.weights.cpu())
    return replace(
        batch,
        observations=tuple(array.cpu() for array in batch.observations),
        fields={name: array.cpu() for name, array in batch.fields.items()},
        state=tuple(part.cpu() for part in batch.state),
        valid=batch.valid.cpu(),
        sample=sample,
    )


def test_an_update_that_draws_rows_is_not_replayed(device: Device) -> None:
    """A recording would draw the same ones for ever."""
    more: dict[str, Any] = {"optimiser__update_graphs": True, "optimiser__optimiser": "adam"}
    config, spec = make_config(algorithm="ald", image=False, core="lstm", **more)
    with pytest.raises(UsageError, match="nor draws rows within an update, got --optimiser adam, 1 learners and ALD"):
        DeviceWorld(device, config, spec)
