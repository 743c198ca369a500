"""Inference, hand-over and training alone: the device process's real parts take turns in one thread, over noise.

Two halves of the environments are answered alternately, as they are in a run. Complete unrolls go to the queue or the
replay, and as soon as it is a train batch's turn, it is trained on and published. Nobody waits for anybody.
"""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np
import torch

from seedbed.common.options import override
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.replay import Replay
from seedbed.server.experience.rounds import RoundCollector, RoundFifo
from seedbed.server.inference.policy import Slots
from seedbed.server.options.config import ServerConfig
from seedbed.server.shared.slots import SlotTable
from seedbed.server.training.assemble import assemble
from tests.bench.components import Cost, Stopwatch, inference_batch

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
        parts = assemble(_alone(config), spec)
        self.learner, self._parameters, self.store = parts.learner, parts.parameters, parts.unrolls
        self._slots, self._inference = parts.slots, parts.inference
        self._device, layout = parts.device, parts.unrolls.layout
        algorithm, rounds = parts.algorithm, parts.regime.on_policy
        self.batch_size = num_envs if rounds else algorithm.batch_size
        self.queue, self._sink = parts.source, parts.sink
        self._shown = config.fleet.greedy_environments
        self._rounds: RoundCollector | None = None
        if rounds:  # their own queue differs in `learn` alone, which waits for another thread
            self.queue = UnrollFifo(layout, 2 * num_envs, self._device)
            self._sink = self._rounds = RoundCollector(self.store, cast(RoundFifo, self.queue), self._shown)
        self._replays = isinstance(self.queue, Replay)
        self._owed = 0.0  # draws that a replay's ratio allows
        self._per_insert = 0.0
        if self._replays:
            self._per_insert = config.algorithm_options.replay.draws_per_insert(layout.period, self.batch_size)
        self._inference.begin(np.arange(num_envs), 1, range(num_envs))
        self.batch_rows = inference_batch(config)
        what = "transitions, stored in unrolls" if algorithm.draws == "transitions" else "unrolls"
        self.train_batch = f"{self.batch_size} {what} of {layout.num_rows} rows"
        self._batches = [np.arange(i, min(i + self.batch_rows, num_envs)) for i in range(0, num_envs, self.batch_rows)]
        self._steps_per_period = layout.num_rows - 1 if rounds else layout.period
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
                self._sink.hand_over(part)
            self._owed += self._per_insert * sum(slot not in self._shown for slot in part.tolist())
            while self._may_train():
                self._train()

    def _may_train(self) -> bool:
        waiting = self._owed if self._replays else len(self.queue)
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
        assert isinstance(batch, TrainBatch)
        with self._watches["training"].running():
            update = self.learner.update(batch, 0.0)
            self._parameters.publish(self.learner.network, self.learner.num_updates)
        if replay is not None and update.priorities is not None:
            with self._watches["hand_over"].running():
                replay.update_priorities(batch, update.priorities)

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _alone(config: ServerConfig) -> ServerConfig:
    """Without waiting: one thread must not wait for itself, so it keeps to a replay's ratio on its own."""
    values: dict[str, Any] = {
        "serving.num_slots": config.fleet.num_envs,
        "serving.queue_unrolls": 2 * max(config.learning.batch_size, config.fleet.num_envs),
    }
    replay = getattr(config.algorithm_options, "replay", None)
    if replay is not None:
        small = {
            "replay_capacity": min(replay.replay_capacity, _REPLAY_CAPACITY),
            "replay_min_size": 1,
            "replay_tolerance": 1e9,
        }
        values |= {f"algorithm_options.replay.{name}": value for name, value in small.items()}
    return override(config, values)


def _fill_with_noise(slots: SlotTable) -> None:
    rng = np.random.default_rng(0)
    for array in slots.observations:
        array[...] = rng.integers(0, 256, array.shape).astype(array.dtype)
    slots.step_type[:] = StepType.FIRST
    slots.discount[:] = 1
