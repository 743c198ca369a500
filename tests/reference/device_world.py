"""A whole device process on the simulated device: inference, learner and main thread as hosts that take turns, no gRPC.

Which environments ask together, where episodes end and when leases change is drawn, from one seed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.joint_spec import join
from seedbed.common.options import override
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.common.timestep import StepType
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.rounds import RoundCollector
from seedbed.server.experience.source import Empty, Source
from seedbed.server.inference.device_stream import stream_of_its_own
from seedbed.server.learning.loop import LearnerLoop
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.state import RunState
from seedbed.server.shared.vitals import VitalsTable
from seedbed.server.training.assemble import assemble
from seedbed.server.training.resolve import defaults_of
from tests.reference.device import Device

BOX = ArraySpec(name="action", dtype="float32", shape=(2,), kind="box", low=(-2.0,), high=(2.0,))
VECTOR = ArraySpec(name="observation", dtype="float32", shape=(6,))
IMAGE = ArraySpec(name="observation", dtype="uint8", shape=(28, 28), kind="box", low=(0.0,), high=(255.0,))
GROUP = 2  # rows of a lease

_COMMON: dict[str, Any] = {
    "run.device": "cuda:0",
    "network.core_size": 8,
    "network.core_layers": 1,
    "network.core_heads": 2,
    "network.core_memory": 4,
    "fleet.num_envs": 8,
    "fleet.num_greedy_envs": 0,
    "serving.num_slots": 8,
    "learning.unroll_length": 5,
    "learning.batch_size": 4,
}
_REPLAY: dict[str, Any] = {
    "algorithm_options.replay.replay_capacity": 24,
    "algorithm_options.replay.replay_min_size": 8,
}
_OWN: dict[str, dict[str, Any]] = {
    "r2d2": _REPLAY
    | {
        "algorithm_options.burn_in": 2,
        "algorithm_options.period": 3,
        "algorithm_options.n_step": 3,
        "algorithm_options.head_size": 16,
        "algorithm_options.target_period_updates": 3,
    },
    "apex": _REPLAY | {"algorithm_options.head_size": 16, "algorithm_options.target_period_updates": 3},
    "sac": _REPLAY
    | {
        "algorithm_options.hidden_size": 16,
        "algorithm_options.random_steps": 20,
        "algorithm_options.replay.updates_per_step": 0.25,
    },
    "td3": _REPLAY
    | {
        "algorithm_options.hidden_size": 16,
        "algorithm_options.random_steps": 20,
        "algorithm_options.replay.updates_per_step": 0.25,
    },
    "ald": {
        "algorithm_options.burn_in": 2,
        "algorithm_options.learner_core": "gtrxl",
        "algorithm_options.distillation_steps": 2,
        "algorithm_options.distillation_replay": 2,
    },
    "ppo": {"algorithm_options.epochs": 2, "algorithm_options.minibatches": 2},
    "pqn": {"algorithm_options.epochs": 2, "algorithm_options.minibatches": 2},
}


def make_config(
    algorithm: str, *, image: bool, core: str = "none", tasks: bool = False, **more: Any
) -> tuple[ServerConfig, EnvironmentSpec]:
    """A small run with everything switched on that the network of its kind has.

    Args:
        algorithm: its name.
        image: pixels and a convolutional network; else six numbers.
        core: of the network.
        tasks: two of them, of which one has fewer actions.
        **more: options by dotted path, two underscores for each dot.
    """
    replays = "replay" in {name.split(".")[1] for name in _OWN.get(algorithm, {}) if name.count(".") > 1}
    action = BOX if algorithm in ("sac", "td3") else discrete("action", 5)
    spec = EnvironmentSpec(environment="sim", observations=(IMAGE if image else VECTOR,), actions=(action,))
    if tasks:
        smaller = replace(spec, environment="smaller", actions=(discrete("action", 3),))
        spec = join([spec, smaller], "both")
        more["tasks__tasks_json"] = '["sim", "smaller"]'
    values = _COMMON | _OWN.get(algorithm, {}) | {"network.core": core}
    values |= {"network.torso": "impala_shallow" if image else "flat", "network.frame_stack": 3 if image else 1}
    values |= {"network.precision": "bfloat16" if image else "float32", "network.background": 87.0 if image else 0.0}
    values |= {"network.normalise_observations": "off" if image else "on"}
    if algorithm in ("sac", "td3") and core != "none":
        values |= {"algorithm_options.burn_in": 2}
    if replays:
        values |= {"algorithm_options.replay.replay_device": "cuda"}
    values |= {name.replace("__", "."): value for name, value in more.items()}
    return override(defaults_of(algorithm), values), spec


class _Patient(Source):
    """A source whose learner's turn is over when there is no batch."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def get(self, size: int, timeout_s: float | None = None) -> TrainBatch | Empty:
        """Waits for nothing."""
        batch = self._source.get(size, 0.0)
        return batch if isinstance(batch, TrainBatch) else Empty.CLOSED

    def update_priorities(self, batch: TrainBatch, priorities: Tensor) -> None:
        """Passed on."""
        self._source.update_priorities(batch, priorities)

    drain = metrics = _room = _may_take = _insert = _take = None  # type: ignore[assignment]


class DeviceWorld:
    """A device process.

    Attributes:
        parts: what acts and learns.
        calls: by phase; of `get` those that gave a batch.
        recorded: graphs, before anybody was answered.
        batches: for tests that keep them.
    """

    def __init__(
        self, device: Device, config: ServerConfig, spec: EnvironmentSpec, state: RunState | None = None
    ) -> None:
        """Builds it, in the main thread, at the beginning of a run or where it stands."""
        self._device = device
        self.parts = parts = assemble(config, spec, state)
        self.calls: Counter[str] = Counter()
        self._serial = self._turn = 0
        slots = np.arange(parts.slots.num_slots)
        self._groups = [slots[start : start + GROUP] for start in range(0, len(slots), GROUP)]
        self._random = np.random.default_rng(0)
        self._fresh = np.ones(parts.slots.num_slots, bool)
        self.loop = LearnerLoop(
            parts.learner,
            _Patient(parts.source),
            parts.parameters,
            parts.algorithm.batch_size,
            _Clock(),
            VitalsTable(0).device,
        )
        self.recorded = 0
        self.batches: list[TrainBatch] = []
        for owner, name, phase in (
            (parts.inference, "act", "act"),
            (parts.inference, "record_graphs", "record"),
            (parts.inference, "remember", "remember"),
            (parts.inference, "bootstrap", "bootstrap"),
            (parts.source, "_insert", "put"),
            (parts.unrolls, "complete", "complete"),
            (parts.unrolls, "restart", "complete"),
            (parts.source, "get", "get"),
            (parts.learner, "update", "update"),
            (parts.parameters, "publish", "publish"),
            (parts.source, "update_priorities", "priorities"),
            (self.loop, "_count", "count"),
        ):
            self._count_as(owner, name, phase)

    def run(self, turns: int, *, warm_up: int = 0, learn: bool = True) -> None:
        """Starts both threads, serves all environments and joins the threads.

        Args:
            turns: answers for every environment; with rounds T of them make one.
            warm_up: so many before them are not counted.
            learn: whether the learner has its turns.
        """
        device = self._device
        for name in ("inference", "learner"):
            device.start(name)
        if learn:
            device.when_waiting("learner", self._learn)
        with device.host("inference"), stream_of_its_own(self.parts.device):
            self.parts.inference.record_graphs()
            self.recorded = device.captures
            for group in self._groups:
                self._begin(group)
            serve = self._serve if self.parts.rows_of_a_round is None else self._serve_rounds
            serve(warm_up)
            if warm_up:
                self.forget()
            serve(turns)
        for name in ("inference", "learner"):
            device.join(name)

    def _learn(self) -> None:
        """The learner's turn, on the stream of its thread; of a real device the current one is this thread's."""
        if self.parts.device.type != "cuda":
            self.loop.run()
            return
        with torch.cuda.stream(torch.cuda.default_stream(self.parts.device)):
            self.loop.run()

    def forget(self) -> None:
        """Counts from here on: what is done once, at the beginning, is done."""
        for counts in (self.calls, self._device.launches, self._device.waits, self._device.operations):
            counts.clear()

    def launches(self) -> dict[str, float]:
        """Of one call of each phase, that is of an inference batch, a hand-over or an update."""
        return {phase: self._device.launches[phase] / calls for phase, calls in sorted(self.calls.items())}

    def waits(self) -> dict[str, float]:
        """Of one call of the phase that they are in, by "phase: place"."""
        waits = sorted(self._device.waits.items())
        return {f"{phase}: {place}": n / self.calls[phase] for (phase, place), n in waits if phase in self.calls}

    def _serve(self, turns: int) -> None:
        groups = self._groups
        for _ in range(turns):
            order = self._random.permutation(len(groups))
            for part in (order[: len(groups) // 2], order[len(groups) // 2 :]):
                asking = np.concatenate([groups[i] for i in part])
                self._fill(asking)
                self._answer(asking)
            if self._random.random() < 0.1:
                group = groups[self._random.integers(len(groups))]
                self.parts.sink.cut(group)
                self._begin(group)

    def _serve_rounds(self, turns: int) -> None:
        """As the synchronous service does: at the end of a round one lease after another is closed."""
        sink, num_rows = self.parts.sink, self.parts.rows_of_a_round
        assert isinstance(sink, RoundCollector)
        assert num_rows is not None
        everybody = np.concatenate(self._groups)
        for _ in range(turns):
            if self._turn % (num_rows - 1) or not self._turn:
                self._fill(everybody)
            self._answer(everybody)
            self._turn += 1
            if self._turn % (num_rows - 1) == 0:
                for group in self._groups:
                    self._fill(group)
                    self.parts.inference.bootstrap(group)
                    sink.close(group)
                sink.learn()

    def _answer(self, slots: NDArray[np.int64]) -> None:
        complete = self.parts.inference.remember(self.parts.inference.act(slots))
        if len(complete):
            self.parts.sink.hand_over(complete)
        self._device.give_way()

    def _begin(self, slots: NDArray[np.int64]) -> None:
        self._serial += 1
        tasks = [0] * len(slots) if self.parts.slots.spec.num_tasks == 1 else (slots % 2).tolist()
        self.parts.inference.begin(slots, self._serial, slots.tolist(), tasks)
        self._fresh[slots] = True

    def _fill(self, slots: NDArray[np.int64]) -> None:
        """The environments step."""
        table = self.parts.slots
        for number, array in enumerate(table.observations):
            high = 2 if number == table.spec.mask_position else 256
            array[slots] = self._random.integers(0, high, (len(slots), *array.shape[1:])).astype(array.dtype)
        begins = self._fresh[slots] | (table.step_type[slots] == StepType.LAST)
        ends = self._random.random(len(slots)) < 0.15
        table.step_type[slots] = np.where(begins, StepType.FIRST, np.where(ends, StepType.LAST, StepType.MID))
        table.reward[slots] = np.where(begins, 0.0, self._random.normal(size=len(slots)))
        table.discount[slots] = table.step_type[slots] != StepType.LAST
        self._fresh[slots] = False

    def _count_as(self, owner: Any, name: str, phase: str) -> None:
        method = getattr(owner, name)
        if hasattr(method, "__wrapped__"):  # wrapped tensors do not know inference mode: without gradients is as good
            method = torch.no_grad()(method.__wrapped__.__get__(owner))

        def counted(*arguments: Any, **keywords: Any) -> Any:
            with self._device.in_phase(phase):
                result = method(*arguments, **keywords)
            self.calls[phase] += not isinstance(result, Empty)
            return result

        setattr(owner, name, counted)


class _Clock:
    """Of a run that never ends."""

    def share_done(self) -> float:
        """Always near its start."""
        return 0.1

    def consume(self, num_transitions: int) -> None:
        """Forgets it."""
