"""Slot ids -> gather -> policy -> actions; then, when the actors have them, the bookkeeping.

The only code that touches agent states, ages, last actions and open unrolls, always from one thread: so `remember`
may run after the actions are out, and still before the same slots can ask again.

Shapes: S slots, N rows of an inference batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.errors import DivergedError
from seedbed.common.timestep import StepType
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.experience.open_unrolls import HostRow, OpenUnrolls
from seedbed.server.experience.unroll import ACTION_MASK, TASK, action_field, last_action_field
from seedbed.server.inference.graphs import Graphs
from seedbed.server.inference.parameters import Parameters
from seedbed.server.inference.upload import Upload
from seedbed.server.networks.interface import AgentState, Inputs
from seedbed.server.shared.slots import SlotTable

Slots = NDArray[np.int64]


class Arrived(NamedTuple):
    """Timesteps that wait for an answer, with all that is wanted of them, `[N, ...]` each on the device.

    Attributes:
        slot: where its state is kept.
        row: their rows among all rows of open unrolls.
        environment: indices of their environments.
        greedy: rows that explore nothing; None where there are none.
        host_age: the same as `age`, on the host.
        is_last: on the host.
    """

    inputs: Inputs
    discount: Tensor
    age: Tensor
    slot: Tensor
    row: Tensor
    environment: Tensor
    greedy: Tensor | None
    host_age: NDArray[np.int64]
    is_last: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answered:
    """An inference batch whose actions are out and whose rows are not yet in the unrolls."""

    slots: Slots
    arrived: Arrived
    state: AgentState
    decision: Decision
    policy_version: int

    @property
    def inputs(self) -> Inputs:
        """What was answered."""
        return self.arrived.inputs


class Inference:
    """The policy over all slots.

    Attributes:
        num_steps: answered rows that were not LAST: agent steps.
        steps_of_tasks: `[K]`, those of each task; counted where there are several.
        steps_elsewhere: those of the run's other replicas since they started.
    """

    def __init__(
        self,
        *,
        algorithm: Algorithm,
        parameters: Parameters,
        slots: SlotTable,
        unrolls: OpenUnrolls,
        device: torch.device,
        seed: int,
        steps_before: int = 0,
        greedy_environments: range = range(0),
        graphs: Graphs | None = None,
        first_index: int = 0,
    ) -> None:
        """Allocates per-slot state and staging; nothing grows later.

        Args:
            algorithm: picks the actions.
            parameters: gives the network.
            slots, unrolls: where rows come from and are kept.
            device: of inference.
            seed: of the generator that actions are drawn with.
            steps_before: agent steps of the run's earlier starts.
            greedy_environments: indices of the environments that explore nothing.
            graphs: replay the network; it runs as it is unless given.
            first_index: of this replica's environments, which are 0 for what acts and learns.
        """
        self._algorithm = algorithm
        self._parameters = parameters
        self._slots = slots
        self._unrolls = unrolls
        self._device = device
        self._steps_before = steps_before
        self._greedy_environments = greedy_environments
        self._generator = torch.Generator(device).manual_seed(seed)
        network, _ = parameters.acquire()
        self._state: AgentState = network.initial_state(slots.num_slots, device)
        self._age = np.zeros(slots.num_slots, np.int64)
        self._last_actions = tuple(
            np.zeros((slots.num_slots, *spec.shape), np.float32 if spec.kind == "box" else np.int64)
            for spec in slots.spec.actions
        )
        self._action_fields = [action_field(spec.name) for spec in slots.spec.actions]
        self._last_action_fields = [last_action_field(spec.name) for spec in slots.spec.actions]
        self._environment = np.zeros(slots.num_slots, np.int64)
        self._task = np.zeros(slots.num_slots, np.int64)
        self._num_tasks = slots.spec.num_tasks
        self._greedy = np.zeros(slots.num_slots, bool)
        self._upload = Upload(device)
        arrays = (*slots.observations, slots.step_type, slots.reward, slots.discount)
        self._tables = [torch.from_numpy(array) for array in arrays]
        self._graphs = graphs or Graphs(slots.num_slots, None)
        self.num_steps = 0
        self.steps_of_tasks: Slots = np.zeros(self._num_tasks, np.int64)
        self.steps_elsewhere = 0
        self._first_index = first_index

    def begin(self, slots: Slots, lease: int, environment_indices: Sequence[int], tasks: Sequence[int] = (0,)) -> None:
        """Slots have a new holder. Agent state and ages need no reset: the first row is FIRST, which does it."""
        indices = [index - self._first_index if index >= self._first_index else index for index in environment_indices]
        self._environment[slots] = indices
        self._task[slots] = tasks
        self._greedy[slots] = [index in self._greedy_environments for index in indices]
        self._unrolls.begin(slots, lease, indices)

    @torch.inference_mode()
    def record_graphs(self) -> None:
        """Records all graphs, in the thread that replays them and before anybody has a slot; without graphs nothing."""
        if not self._graphs.wanted:
            return
        arrived = self._arrive(np.zeros(1, np.int64))  # the first row of the first slot is written anew when it comes
        state = tuple(part.index_select(0, arrived.slot) for part in self._state)
        self._graphs.record(self._parameters.copies, arrived.inputs, state)

    @property
    def random_state(self) -> Tensor:
        """State of the generator that actions are drawn with; only while the inference thread does not run."""
        return self._generator.get_state()

    @random_state.setter
    def random_state(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def draw_anew(self, seed: int) -> None:
        """Draws as if by a new generator."""
        self._generator.manual_seed(seed)

    @torch.inference_mode()
    def act(self, slots: Slots, watched: bool = False) -> Answered:
        """Answers one timestep of each slot and writes the actions into the slot table.

        Args:
            slots: `[N]`, no slot twice.
            watched: somebody wants to see what the policy thought.

        Raises:
            DivergedError: an action is not finite; none is sent.
        """
        network, version = self._parameters.acquire()
        arrived = self._arrive(slots)
        self._age[slots] = arrived.host_age
        state = tuple(part.index_select(0, arrived.slot) for part in self._state)
        acting = Acting(
            environment_indices=arrived.environment,
            generator=self._generator,
            agent_steps=self._steps_before + self.num_steps + self.steps_elsewhere,
            greedy=arrived.greedy,
            watched=watched,
        )
        decision = self._algorithm.act(self._graphs.of(network), arrived.inputs, state, acting)
        sent = [action.cpu().numpy() for action in decision.sent]
        _check_finite(sent)
        self._slots.answer(slots, sent, version)
        for table, action in zip(self._last_actions, sent, strict=True):
            table[slots] = action
        stepped = ~arrived.is_last
        self.num_steps += int(np.count_nonzero(stepped))
        if self._num_tasks > 1:
            self.steps_of_tasks += np.bincount(self._task[slots[stepped]], minlength=self._num_tasks)
        return Answered(slots, arrived, state, decision, version)

    @torch.inference_mode()
    def remember(self, answered: Answered) -> Slots:
        """Stores what `act` decided: agent state and the row of each open unroll.

        Returns:
            Slots whose unroll is complete.
        """
        arrived, decision = answered.arrived, answered.decision
        for table, part in zip(self._state, decision.state, strict=True):
            table.index_copy_(0, arrived.slot, part)
        fields = {
            **self._timestep_fields(arrived),
            **dict(zip(self._action_fields, decision.actions, strict=True)),
            "policy_version": torch.full_like(arrived.age, answered.policy_version),
            **decision.recorded,
        }
        known = HostRow(arrived.is_last, answered.policy_version)
        return self._unrolls.append(answered.slots, fields, answered.state, arrived.row, known)

    @torch.inference_mode()
    def bootstrap(self, slots: Slots) -> None:
        """Ends open unrolls with the timestep that each of these slots sent, before it is answered.

        The same timestep is answered later and then begins the next unroll: see `OpenUnrolls.restart`.
        """
        arrived = self._arrive(slots)
        fields, known = self._timestep_fields(arrived), HostRow(arrived.is_last, 0)
        self._unrolls.bootstrap(slots, fields, arrived.row, known)

    def _arrive(self, slots: Slots) -> Arrived:
        """What these slots sent; changes nothing but the newest observation of each open unroll."""
        step_types = self._slots.step_type[slots]
        first = step_types == StepType.FIRST
        host_age = np.where(first, 0, self._age[slots] + 1)
        newest = self._unrolls.newest(slots)
        last_action = [_zero_where(first, table[slots]) for table in self._last_actions]
        arrays = [slots, host_age, self._unrolls.row(slots), self._environment[slots], *newest.values(), *last_action]
        if self._greedy_environments:
            arrays.append(self._greedy[slots])
        if self._num_tasks > 1:
            arrays.append(self._task[slots])
        there = iter(self._upload(slots, self._tables, arrays))
        observations = [next(there) for _ in self._slots.observations]
        position = self._slots.spec.mask_position
        mask = None if position is None else observations.pop(position)
        step_type, reward, discount, slot, age, row, environment = (next(there) for _ in range(7))
        places = {history: next(there) for history in newest}
        actions = tuple(next(there) for _ in last_action)
        stacks = self._unrolls.observe(slots, observations, age, places)
        greedy = next(there) if self._greedy_environments else None
        inputs = Inputs(stacks, step_type, reward, actions, mask, next(there, None))
        is_last = step_types == StepType.LAST
        return Arrived(inputs, discount, age, slot, row, environment, greedy, host_age, is_last)

    def _timestep_fields(self, arrived: Arrived) -> dict[str, Tensor]:
        """What is recorded of a row whatever answers it."""
        inputs = arrived.inputs
        fields = {
            "step_type": inputs.step_type,
            "reward": inputs.reward,
            "discount": arrived.discount,
            "age": arrived.age,
            **dict(zip(self._last_action_fields, inputs.last_action, strict=True)),
        }
        if inputs.task is not None:
            fields[TASK] = inputs.task
        return fields if inputs.mask is None else fields | {ACTION_MASK: inputs.mask}


def _check_finite(actions: Sequence[NDArray[Any]]) -> None:
    """Refuses to send numbers that no environment can take.

    Raises:
        DivergedError: an action is not finite.
    """
    for action in actions:
        if action.dtype.kind == "f" and not np.isfinite(action).all():
            raise DivergedError(
                f"expected finite actions, got {action[~np.isfinite(action)].tolist()[:5]}: the policy has diverged, "
                "its last checkpoint is from before"
            )


def _zero_where(first: NDArray[np.bool_], actions: NDArray[Any]) -> NDArray[Any]:
    """Zeroes, in a copy of its own, the rows of `[N, ...]` that `first` `[N]` names."""
    actions[first] = 0
    return actions
