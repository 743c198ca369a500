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
from seedbed.server.algorithms.interface import Acting, Algorithm, Decision
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.stored_unrolls import Marker
from seedbed.server.experience.unroll import ACTION_MASK, TASK, action_field, last_action_field
from seedbed.server.inference.graphs import Graphs
from seedbed.server.inference.parameters import Parameters
from seedbed.server.networks.interface import AgentState, Inputs
from seedbed.server.shared.slots import SlotTable

Slots = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Answered:
    """An inference batch whose actions are out and whose rows are not yet in the unrolls."""

    slots: Slots
    inputs: Inputs
    discount: Tensor
    age: Tensor
    state: AgentState
    decision: Decision
    policy_version: int


class _Arrived(NamedTuple):
    """Timesteps that wait for an answer, with all that the network wants to know beside."""

    inputs: Inputs
    discount: Tensor
    age: Tensor
    host_age: NDArray[np.int64]


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
        self._gather = _Gather(slots, device)
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
        index, inputs = self._put(slots), arrived.inputs
        state = tuple(part.index_select(0, index) for part in self._state)
        acting = self._acting(slots, watched)
        decision = self._algorithm.act(self._graphs.of(network), inputs, state, acting)
        sent = [action.cpu().numpy() for action in decision.sent]
        _check_finite(sent)
        self._slots.answer(slots, sent, version)
        for table, action in zip(self._last_actions, sent, strict=True):
            table[slots] = action
        stepped = self._slots.step_type[slots] != StepType.LAST
        self.num_steps += int(np.count_nonzero(stepped))
        if self._num_tasks > 1:
            self.steps_of_tasks += np.bincount(self._task[slots[stepped]], minlength=self._num_tasks)
        return Answered(slots, inputs, arrived.discount, arrived.age, state, decision, version)

    @torch.inference_mode()
    def remember(self, answered: Answered) -> Slots:
        """Stores what `act` decided: agent state and the row of each open unroll.

        Returns:
            Slots whose unroll is complete.
        """
        slots, decision = answered.slots, answered.decision
        index = self._put(slots)
        for table, part in zip(self._state, decision.state, strict=True):
            table.index_copy_(0, index, part)
        fields = {
            **self._timestep_fields(answered.inputs, answered.discount, answered.age),
            **dict(zip(self._action_fields, decision.actions, strict=True)),
            "policy_version": torch.full_like(answered.age, answered.policy_version),
            **decision.recorded,
        }
        return self._unrolls.append(slots, fields, answered.state)

    @torch.inference_mode()
    def bootstrap(self, slots: Slots) -> None:
        """Ends open unrolls with the timestep that each of these slots sent, before it is answered.

        The same timestep is answered later and then begins the next unroll: see `OpenUnrolls.restart`.
        """
        arrived = self._arrive(slots)
        self._unrolls.bootstrap(slots, self._timestep_fields(arrived.inputs, arrived.discount, arrived.age))

    def _arrive(self, slots: Slots) -> _Arrived:
        """What these slots sent; changes nothing but the newest observation of each open unroll."""
        rows = self._gather(slots)
        first = self._slots.step_type[slots] == StepType.FIRST
        host_age = np.where(first, 0, self._age[slots] + 1)
        last_action = tuple(self._put(_zero_where(first, table[slots])) for table in self._last_actions)
        age = self._put(host_age)
        stacks = self._unrolls.observe(slots, rows.observations, age)
        task = self._put(self._task[slots]) if self._num_tasks > 1 else None
        inputs = Inputs(stacks, rows.step_type, rows.reward, last_action, rows.mask, task)
        return _Arrived(inputs, rows.discount, age, host_age)

    def _timestep_fields(self, inputs: Inputs, discount: Tensor, age: Tensor) -> dict[str, Tensor]:
        """What is recorded of a row whatever answers it."""
        fields = {
            "step_type": inputs.step_type,
            "reward": inputs.reward,
            "discount": discount,
            "age": age,
            **dict(zip(self._last_action_fields, inputs.last_action, strict=True)),
        }
        if inputs.task is not None:
            fields[TASK] = inputs.task
        return fields if inputs.mask is None else fields | {ACTION_MASK: inputs.mask}

    def _acting(self, slots: Slots, watched: bool) -> Acting:
        greedy = self._greedy[slots] if self._greedy_environments else None
        return Acting(
            environment_indices=self._put(self._environment[slots]),
            generator=self._generator,
            agent_steps=self._steps_before + self.num_steps + self.steps_elsewhere,
            greedy=None if greedy is None else self._put(greedy),
            watched=watched,
        )

    def _put(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self._device, non_blocking=True)


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


class _Rows(NamedTuple):
    """What some slots sent, `[N, ...]` each; the action mask apart from the observations that are shown."""

    observations: Sequence[Tensor]
    mask: Tensor | None
    step_type: Tensor
    reward: Tensor
    discount: Tensor


class _Gather:
    """Rows of the slot table -> tensors on the device, through pinned staging where that helps."""

    def __init__(self, slots: SlotTable, device: torch.device) -> None:
        self._device = device
        self._mask_position = slots.spec.mask_position
        arrays = (*slots.observations, slots.step_type, slots.reward, slots.discount)
        self._tables = [torch.from_numpy(array) for array in arrays]
        pin = device.type == "cuda"
        self._staging = [torch.empty_like(table, pin_memory=pin) for table in self._tables] if pin else None
        self._copied = Marker(device)  # out of the staging

    def __call__(self, slots: Slots) -> _Rows:
        """What these slots sent last."""
        index = torch.from_numpy(slots)
        if self._staging is None:
            rows = [table.index_select(0, index) for table in self._tables]
        else:
            rows = []
            self._copied.wait_on_host()
            for table, staging in zip(self._tables, self._staging, strict=True):
                torch.index_select(table, 0, index, out=staging[: len(slots)])
                rows.append(staging[: len(slots)].to(self._device, non_blocking=True))
            self._copied.record()
        *observations, step_type, reward, discount = rows
        mask = None if self._mask_position is None else observations.pop(self._mask_position)
        return _Rows(observations, mask, step_type, reward, discount)
