"""Inference, hand-over and training alone: the device process's real parts take turns in one thread, over noise.

Two halves of the environments are answered alternately, as they are in a run. Complete unrolls go to the queue, and as
soon as a train batch is complete it is trained on and published. Nobody waits for anybody.
"""

from __future__ import annotations

import time
from typing import cast

import numpy as np
import torch

from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.server.algorithms.registry import make_algorithm
from seedbed.server.config import ServerConfig
from seedbed.server.experience.collector import Collector
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.round_fifo import RoundCollector, RoundFifo
from seedbed.server.experience.unrolls import UnrollStore
from seedbed.server.learning.learner import Learner
from seedbed.server.learning.parameters import Parameters
from seedbed.server.parts import choose_device, make_acting_network, make_layout
from seedbed.server.serving.inference import Inference, Slots
from seedbed.server.serving.slots import SlotTable
from tests.bench.components import Cost, Stopwatch, inference_batch


class PolicyAlone:
    """All that the device process computes.

    Attributes:
        batch_rows: N, rows in an inference batch.
        train_batch: the size of a train batch, for people.
    """

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """Builds everything as a run does."""
        self._device = choose_device(config.run)
        torch.manual_seed(config.environment.seed)
        num_envs = config.fleet.num_envs
        self._algorithm = make_algorithm(config, spec)
        self._learner = Learner(self._algorithm, config.optimiser, self._device)
        self._parameters = Parameters(lambda: make_acting_network(self._algorithm, self._device), self._learner.network)
        layout = make_layout(config, spec, self._algorithm, self._learner.network)
        store = UnrollStore(layout, num_envs, self._device)
        self._batch_size = num_envs if self._algorithm.synchronous else self._algorithm.batch_size
        self._queue = UnrollFifo(layout, 2 * self._batch_size, self._device)
        # A round's collector needs nothing of its own queue but `learn`, which waits for another thread.
        self._rounds = RoundCollector(store, cast(RoundFifo, self._queue)) if self._algorithm.synchronous else None
        self._collector = self._rounds or Collector(store, self._queue)
        slots = SlotTable(spec, num_envs)
        self._inference = Inference(
            algorithm=self._algorithm,
            parameters=self._parameters,
            slots=slots,
            unrolls=store,
            device=self._device,
            seed=config.environment.seed,
        )
        self._inference.begin(np.arange(num_envs), 1, range(num_envs))
        self.batch_rows = inference_batch(config)
        self._batches = [np.arange(i, min(i + self.batch_rows, num_envs)) for i in range(0, num_envs, self.batch_rows)]
        self._slots = slots
        self.train_batch = f"{self._batch_size} unrolls of {layout.num_rows} rows"
        self._steps_per_period = layout.num_rows - 1 if self._algorithm.synchronous else layout.period
        _fill_with_noise(slots)
        self._watches = self._new_watches()
        self._period()  # the first one is slower
        slots.step_type[:] = StepType.MID

    def measure(self, seconds: float) -> dict[str, Cost]:
        """Acts and learns for so long, and in whole unrolls, so that every step is trained on.

        Returns:
            "inference", "hand_over" and "training".
        """
        self._watches = self._new_watches()
        num_steps = 0
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            self._period()
            num_steps += self._steps_per_period * self._slots.num_slots
        return {name: watch.per_step(num_steps) for name, watch in self._watches.items()}

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
        for start in range(0, len(complete), self._batch_size):
            with self._watches["hand_over"].running():
                self._collector.hand_over(complete[start : start + self._batch_size])
            while len(self._queue) >= self._batch_size:
                self._train()

    def _end_round(self, rounds: RoundCollector) -> None:
        for batch in self._batches:
            with self._watches["inference"].running():
                self._inference.bootstrap(batch)
            with self._watches["hand_over"].running():
                rounds.close(batch)
        self._train()

    def _train(self) -> None:
        with self._watches["hand_over"].running():
            batch = self._queue.get(self._batch_size)
        assert batch is not None
        with self._watches["training"].running():
            self._learner.update(batch, 0.0)
            self._parameters.publish(self._learner.network, self._learner.num_updates)

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _fill_with_noise(slots: SlotTable) -> None:
    rng = np.random.default_rng(0)
    for array in slots.observations:
        array[...] = rng.integers(0, 256, array.shape).astype(array.dtype)
    slots.step_type[:] = StepType.FIRST
    slots.discount[:] = 1
