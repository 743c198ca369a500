"""Inference, hand-over and training alone: the device process's real parts take turns in one thread, over noise.

Two halves of the environments are answered alternately, as they are in a run. Complete unrolls go to the queue or the
replay, and as soon as it is a train batch's turn, it is trained on and published. Nobody waits for anybody.
"""

from __future__ import annotations

import time
from typing import cast

import numpy as np
import torch

from seedbed.common.options import override
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.experience.account import Collector
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.replay import Replay
from seedbed.server.experience.rounds import RoundCollector, RoundFifo
from seedbed.server.inference.policy import Slots
from seedbed.server.options.config import ServerConfig
from seedbed.server.shared.slots import SlotTable
from seedbed.server.training.assemble import make_queue
from tests.bench.components import Cost, Stopwatch, inference_batch
from tests.bench.device_parts import DeviceParts

_REPLAY_CAPACITY = 1000  # at most: full-size ones take long to fill


class PolicyAlone:
    """All that the device process computes.

    Attributes:
        batch_rows: N, rows in an inference batch.
        batch_size: B, unrolls in a train batch.
        train_batch: the size of a train batch, for people.
        queue: what takes unrolls to the learner.
        store: the open unrolls.
        learner: what is trained.
    """

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """Builds everything as a run does."""
        num_envs = config.fleet.num_envs
        parts = DeviceParts.build(config, spec)
        self.learner, self._parameters, self.store = parts.learner, parts.parameters, parts.store
        self._slots, self._inference = parts.slots, parts.inference
        self._device, layout = parts.store.device, parts.store.layout
        algorithm = parts.algorithm
        self.batch_size = num_envs if algorithm.regime == "rounds" else algorithm.batch_size
        self._make_queue(config, algorithm)
        self._inference.begin(np.arange(num_envs), 1, range(num_envs))
        self.batch_rows = inference_batch(config)
        self.train_batch = f"{self.batch_size} unrolls of {layout.num_rows} rows"
        self._batches = [np.arange(i, min(i + self.batch_rows, num_envs)) for i in range(0, num_envs, self.batch_rows)]
        self._steps_per_period = layout.num_rows - 1 if algorithm.regime == "rounds" else layout.period
        self._watches = self._new_watches()
        _fill_with_noise(self._slots)
        self._period()  # the first one is slower
        self._slots.step_type[:] = StepType.MID

    def measure(self, seconds: float) -> dict[str, Cost]:
        """Acts and learns for so long, and in whole unrolls, so that every step is trained on.

        Returns:
            "inference", "hand_over" and "training".
        """
        self._watches = self._new_watches()
        num_steps = 0
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s or not self._watches["training"].cpu_s:
            self._period()
            num_steps += self._steps_per_period * self._slots.num_slots
        return {name: watch.per_step(num_steps) for name, watch in self._watches.items()}

    def _make_queue(self, config: ServerConfig, algorithm: Algorithm) -> None:
        """A queue with room for all that one thread can put there before it takes anything."""
        self._rounds: RoundCollector | None = None
        self._owed = 0.0  # unrolls that a replay's ratio allows to be drawn
        self._shown = config.fleet.greedy_environments
        self.queue: UnrollFifo | Replay
        self._collector: Collector
        if algorithm.regime == "replay":
            self._per_insert = config.algorithm_options.replay.samples_per_insert
            capacity = min(config.algorithm_options.replay.replay_capacity, _REPLAY_CAPACITY)
            # One thread must not wait for itself, so it keeps to the ratio on its own.
            values = {"replay_capacity": capacity, "replay_min_size": 1, "replay_tolerance": 1e9}
            changed = override(config, {f"algorithm_options.replay.{name}": value for name, value in values.items()})
            self.queue, self._collector = make_queue(changed, algorithm, self.store)
            return
        self.queue = UnrollFifo(self.store.layout, 2 * self.batch_size, self._device)
        if algorithm.regime == "rounds":  # its own queue differs in `learn` alone, which waits for another thread
            self._collector = self._rounds = RoundCollector(self.store, cast(RoundFifo, self.queue), self._shown)
        else:
            self._collector = Collector(self.store, self.queue, self._shown)

    def _new_watches(self) -> dict[str, Stopwatch]:
        return {name: Stopwatch(self._synchronise) for name in ("inference", "hand_over", "training")}

    def _period(self) -> None:
        """As many steps of every environment as there are in an unroll's new part."""
        for _ in range(self._steps_per_period):
            for batch in self._batches:
                with self._watches["inference"].running():
                    complete = self._inference.remember(self._inference.act(batch))
                if self._rounds is None:
                    self._hand_over(complete)
        if self._rounds is not None:
            self._end_round(self._rounds)

    def _hand_over(self, complete: Slots) -> None:
        for start in range(0, len(complete), self.batch_size):
            part = complete[start : start + self.batch_size]
            with self._watches["hand_over"].running():
                self._collector.hand_over(part)
            self._owed += self._per_insert * sum(slot not in self._shown for slot in part.tolist())
            while self._may_train():
                self._train()

    def _may_train(self) -> bool:
        waiting = self._owed if isinstance(self.queue, Replay) else len(self.queue)
        return waiting >= self.batch_size

    def _end_round(self, rounds: RoundCollector) -> None:
        for batch in self._batches:
            with self._watches["inference"].running():
                self._inference.bootstrap(batch)
            with self._watches["hand_over"].running():
                rounds.close(batch)
        self.batch_size = len(self.queue)  # environments that only show the score are not among them
        self._train()

    def _train(self) -> None:
        self._owed -= self.batch_size
        with self._watches["hand_over"].running():
            replay = self.queue if isinstance(self.queue, Replay) else None
            batch = replay.sample(self.batch_size) if replay is not None else self.queue.get(self.batch_size)
        assert batch is not None
        with self._watches["training"].running():
            update = self.learner.update(batch, 0.0)
            self._parameters.publish(self.learner.network, self.learner.num_updates)
        if replay is not None and update.priorities is not None:
            with self._watches["hand_over"].running():
                replay.update_priorities(batch, update.priorities)

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _fill_with_noise(slots: SlotTable) -> None:
    rng = np.random.default_rng(0)
    for array in slots.observations:
        array[...] = rng.integers(0, 256, array.shape).astype(array.dtype)
    slots.step_type[:] = StepType.FIRST
    slots.discount[:] = 1
