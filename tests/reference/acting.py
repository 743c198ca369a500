"""Actors made by hand: timesteps written straight into a slot table, and a log of all that was sent and answered.

`World` is the inside of a server on the CPU without threads and processes: slots, inference, open unrolls, queue,
learner and published parameters, with V-trace as the algorithm unless `make` makes another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.common.timestep import StepType, Timesteps
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.algorithms.vtrace import VTrace, VTraceOptions
from seedbed.server.experience.account import Collector
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.unroll import FieldSpec, UnrollLayout
from seedbed.server.inference.parameters import Parameters
from seedbed.server.inference.policy import Inference
from seedbed.server.learning.learner import Learner
from seedbed.server.networks.array_kinds import frame_stacks as stacks_of
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import LearningConfig, OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.shared.slots import SlotTable

CPU = torch.device("cpu")
NUM_ACTIONS = 5
IDENTITY = "identity"
MakeAlgorithm = Callable[[ServerConfig, EnvironmentSpec], Algorithm]
VECTOR = ArraySpec(name="observation", dtype="float32", shape=(6,))
IMAGE = ArraySpec(name="observation", dtype="uint8", shape=(22, 20))


@dataclass
class Sent:
    """One timestep of a lease, observations and mask as they are sent, and the actions that answered it."""

    observations: tuple[NDArray[np.generic], ...]
    step_type: int
    reward: float
    discount: float
    actions: tuple[NDArray[np.generic], ...] = ()
    version: int = -1

    @property
    def observation(self) -> NDArray[np.generic]:
        """The first."""
        return self.observations[0]

    @property
    def action(self) -> int:
        """The first, a number."""
        return int(self.actions[0])


class World:
    """Everything between a Steps message and a train batch.

    An observation with the name `IDENTITY` is (slot, key of the log, number within it); the others are random.
    """

    def __init__(
        self,
        network: NetworkConfig,
        *,
        observation: ArraySpec = VECTOR,
        spec: EnvironmentSpec | None = None,
        frame_stacks: tuple[int, ...] = (),
        options: Any = None,
        make: MakeAlgorithm = VTrace,
        optimiser: OptimiserConfig | None = None,
        num_slots: int = 6,
        seed: int = 0,
        greedy_environments: range = range(0),
    ) -> None:
        torch.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.spec = spec or EnvironmentSpec(
            environment="random", observations=(observation,), actions=(discrete("action", NUM_ACTIONS),)
        )
        config = ServerConfig(
            learning=LearningConfig(unroll_length=5, batch_size=4, reward_clipping="abs_one"),
            network=network,
            algorithm_options=VTraceOptions() if options is None else options,
        )
        self.algorithm = make(config, self.spec)
        self.learner = Learner(self.algorithm, optimiser or OptimiserConfig(), CPU)
        self.scramble(self.learner.network)
        self.layout = UnrollLayout(
            spec=self.spec,
            num_rows=self.algorithm.num_rows,
            period=self.algorithm.period,
            frame_stacks=frame_stacks or stacks_of(self.spec.shown, network.frame_stack),
            recorded=self.algorithm.recorded,
            blocks=self.learner.network.blocks,
            state_specs=tuple(FieldSpec(tuple(x.shape[1:]), x.dtype) for x in self.learner.network.initial_state(1)),
            trained_rows=self.algorithm.trained_rows,
        )
        self.slots = SlotTable(self.spec, num_slots)
        self.store = OpenUnrolls(self.layout, num_slots, CPU)
        self.fifo = UnrollFifo(self.layout, 1000, CPU)
        self.collector = Collector(self.store, self.fifo, greedy_environments)
        self.parameters = Parameters(self.learner.network)
        self.inference = Inference(
            algorithm=self.algorithm,
            parameters=self.parameters,
            slots=self.slots,
            unrolls=self.store,
            device=CPU,
            seed=seed,
            greedy_environments=greedy_environments,
        )
        self.logs: dict[int, list[Sent]] = {}
        self.holders: dict[int, int] = {}

    def scramble(self, network: nn.Module) -> None:
        """Weights with which policies differ much from row to row; the usual start is nearly uniform."""
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))

    def only_step(self, batch: TrainBatch, target: nn.Module | None = None) -> Step:
        """The only step that the algorithm makes of a train batch; the target is the learner's unless given."""
        (step,) = self.algorithm.steps(self.learner.learnt, target or self.learner.target, batch)
        return step

    def loss(self, batch: TrainBatch, target: nn.Module | None = None) -> Tensor:
        """Its loss."""
        loss = self.only_step(batch, target).loss
        assert loss is not None
        return loss

    def begin(self, slots: NDArray[np.int64]) -> None:
        """Leases each slot anew; its environment's index is 100 + slot."""
        for slot in slots.tolist():
            self.holders[slot] = len(self.logs) + 1
            self.logs[self.holders[slot]] = []
            self.slots.clear(slot, 1)
            self.inference.begin(np.array([slot]), self.holders[slot], [100 + slot])

    def end(self, slots: NDArray[np.int64]) -> None:
        """Ends the leases of these slots."""
        self.collector.cut(slots)
        for slot in slots.tolist():
            del self.holders[slot]

    def step(self, slots: NDArray[np.int64]) -> None:
        """Sends the next timestep of each slot, has it answered and remembered."""
        for slot in slots.tolist():
            self._send(slot)
        answered = self.inference.act(slots)
        self.note_answers(slots)
        self.collector.hand_over(self.inference.remember(answered))

    def note_answers(self, slots: NDArray[np.int64]) -> None:
        """Writes down what the actors of these slots were answered."""
        for slot in slots.tolist():
            sent = self.logs[self.holders[slot]][-1]
            sent.actions = tuple(table[slot].copy() for table in self.slots.actions)
            sent.version = int(self.slots.policy_version[slot])

    def run(self, turns: int, *, publish_every: int = 0) -> None:
        """Random sets of slots, episode ends, lease changes and, where asked, new versions."""
        for turn in range(turns):
            free = [slot for slot in range(self.slots.num_slots) if slot not in self.holders]
            self.begin(np.array(free, np.int64))
            chosen = [slot for slot in self.holders if self.random.random() < 0.7]
            if chosen:
                self.step(self.random.permutation(np.array(chosen, np.int64)))
            self.end(np.array([slot for slot in self.holders if self.random.random() < 0.02], np.int64))
            if publish_every and turn % publish_every == publish_every - 1:
                self.publish()

    def publish(self) -> None:
        """A new version, far from the last one."""
        self.scramble(self.learner.network)
        self.learner.num_updates += 1
        self.parameters.publish(self.learner.network, self.learner.num_updates)

    def batches(self) -> list[TrainBatch]:
        """All that waits in the queue, in batches of the algorithm's size."""
        found = []
        while len(self.fifo) >= self.algorithm.batch_size:
            batch = self.fifo.get(self.algorithm.batch_size)
            assert isinstance(batch, TrainBatch)
            found.append(batch)
        return found

    def _send(self, slot: int) -> None:
        log = self.logs[self.holders[slot]]
        if not log or log[-1].step_type == StepType.LAST:
            step_type = StepType.FIRST
        else:
            step_type = StepType.LAST if self.random.random() < 0.2 else StepType.MID
        observations = tuple(self._observation(spec, slot) for spec in self.spec.observations)
        moved = step_type != StepType.FIRST
        ended = step_type == StepType.LAST and self.random.random() < 0.7
        sent = Sent(observations, int(step_type), float(np.float32(self.random.normal())) * moved, 1.0 - ended)
        log.append(sent)
        rows = Timesteps(
            step_type=np.array([sent.step_type], np.uint8),
            reward=np.array([sent.reward], np.float32),
            discount=np.array([sent.discount], np.float32),
            observations=tuple(array[None] for array in observations),
        )
        self.slots.accept(slot, 1, len(log), rows)

    def _observation(self, spec: ArraySpec, slot: int) -> NDArray[np.generic]:
        if spec.name == IDENTITY:
            key = self.holders[slot]
            return np.array([slot, key, len(self.logs[key])], np.float32)
        if spec.dtype == "float32":
            return self.random.normal(size=spec.shape).astype(np.float32)
        high = int(spec.high[0]) if spec.bounded else 255
        return self.random.integers(0, high + 1, spec.shape, spec.numpy_dtype)
