"""The policy of a run, in this process: from observations to actions, exactly as `seedbed eval` has it act.

    policy = seedbed.load("runs/cartpole")
    memory = policy.initial_memory()
    action, memory = policy.act(observation, memory, reward=reward)

What the policy remembers is a value, handed in and out: nothing is hidden that two episodes could mix up, or that could
not be kept and gone back to.

Shapes: N environments, K stacked frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.errors import DivergedError, UsageError
from seedbed.common.joint_spec import served
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import Array, StepType
from seedbed.env_client.environments.filled_up import fill_up
from seedbed.server.algorithms.acting import Acting
from seedbed.server.algorithms.registry import find_algorithm
from seedbed.server.experience.unroll import TORCH_DTYPES
from seedbed.server.export.module import ExportedPolicy
from seedbed.server.inference.parameters import acting_copy
from seedbed.server.networks.interface import AgentState, Inputs
from seedbed.server.networks.observations import as_stored
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.state import RunState
from seedbed.server.training.assemble import make_layout
from seedbed.spaces import ActionWriter, ObservationReader


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """Memory of N episodes: all that an action depends on beside the newest observation. Never changed in place.

    Attributes:
        single: of one environment, whose arrays have no dimension N outside.
        age: int64 `[N]`, observations seen since the episode began; at 0 the next one begins it, and nothing else here
            counts.
        state: of the network, `[N, ...]` each.
        last_action: as it was sent, `[N, ...]` for each action array.
        frames: the K - 1 frames before the next, `[N, K - 1, ...]` for each observation array.
    """

    single: bool
    age: NDArray[np.int64]
    state: AgentState
    last_action: tuple[NDArray[Any], ...]
    frames: tuple[Tensor, ...]

    def restarted(self, ended: Any) -> Memory:
        """The memory with new episodes where `ended`, bool `[N]`, is true; of one environment a single bool."""
        return replace(self, age=np.where(np.broadcast_to(ended, self.age.shape), 0, self.age))


class Policy:
    """A policy that acts; see `seedbed.load`.

    Attributes:
        spec: contract of its environment; of several tasks that of the one it plays.
        rows: spec of the rows that it reads: the same, or a larger one that the rows of all tasks fit into.
        algorithm: its name.
        agent_steps: after which it was saved.
        evaluates_greedily: whether `seedbed eval` has it act greedily.
    """

    def __init__(
        self,
        config: ServerConfig,
        spec: EnvironmentSpec,
        state: RunState,
        *,
        device: str = "cpu",
        seed: int = 0,
        task: int | None = None,
    ) -> None:
        """Builds the network.

        Args:
            config, spec: of the run.
            state: where it stands; as yet untrained where it has no learner's state.
            device, seed: see `seedbed.load`.
            task: the number of the task it plays; None: the run has one.
        """
        self.spec = spec if task is None else spec.tasks[task]
        self.rows = served(spec)[task or 0]
        self._task = task
        self.algorithm = config.algorithm
        self.agent_steps = state.agent_steps
        self._device = torch.device(device)
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, and the caller's random numbers are not ours
            torch.manual_seed(config.environment.seed)
            self._algorithm = find_algorithm(config.algorithm)(config, spec)
            learnt = self._algorithm.make_learnt()
        if state.learner is not None:
            learnt.load_state_dict(state.learner["learnt"])
        self._network = acting_copy(self._algorithm.acting(learnt)).to(self._device)
        self.evaluates_greedily = self._algorithm.evaluates_greedily
        self._reads_reward = config.network.core != "none"
        self._layout = make_layout(config, spec, self._algorithm, self._network)
        self._generator = torch.Generator(self._device).manual_seed(seed)
        self._reader = ObservationReader(self.spec)
        self._environment_action = ActionWriter(self.spec)

    def initial_memory(self, num: int | None = None) -> Memory:
        """The memory before the first observation of an episode.

        Args:
            num: N, to act in so many environments at once; None: in one.
        """
        count = 1 if num is None else num
        arrays = zip(self.rows.shown, self._layout.frame_shapes, self._layout.histories, strict=True)
        return Memory(
            single=num is None,
            age=np.zeros(count, np.int64),
            state=self._network.initial_state(count, self._device),
            last_action=tuple(
                np.zeros((count, *spec.shape), np.float32 if spec.kind == "box" else np.int64)
                for spec in self.spec.actions
            ),
            frames=tuple(
                torch.zeros((count, history, *shape), dtype=TORCH_DTYPES[spec.dtype], device=self._device)
                for spec, shape, history in arrays
            ),
        )

    @torch.inference_mode()
    def act(
        self, observation: Any, memory: Memory, reward: Any = None, mask: Any = None, greedy: bool = True
    ) -> tuple[Any, Memory]:
        """Answers one observation of each environment.

        Args:
            observation: in the environment's own layout; of N environments as a vector of them shows it.
            memory: from `initial_memory` or from the `act` before.
            reward: that the environment gave with this observation, raw. Of no account at the first one of an episode;
                needed beyond it where the network has a memory of its own, and otherwise not read.
            mask: which actions are allowed, where the contract has a mask and the observation does not carry it.
            greedy: the best action; otherwise one is drawn as in training.

        Returns:
            The action in the environment's own layout and units, and the memory for the next call.

        Raises:
            SpecError: the observation or mask is not what the contract says.
            UsageError: reward or mask is missing.
            DivergedError: the action is not finite.
        """
        if mask is None and self._reader.mask_beside:
            raise UsageError("expected mask=: the environments of this run show which actions are allowed")
        arrays = self._reader(observation, mask, num=None if memory.single else len(memory.age))
        if self.rows != self.spec:
            arrays = fill_up(arrays, self.spec, self.rows)
        sent, after = self.answer(arrays, memory, reward, greedy=greedy)
        return self._environment_action(sent, single=memory.single), after

    @torch.inference_mode()
    def answer(
        self, rows: Sequence[Array], memory: Memory, reward: Any = None, *, greedy: bool = True
    ) -> tuple[tuple[Array, ...], Memory]:
        """Answers rows as they travel with actions as they are sent; see `act`.

        Args:
            rows: `[N, ...]` for each observation array of `rows`.
            memory, reward, greedy: as for `act`.
        """
        inputs = self._inputs(rows, memory, reward)
        count = len(memory.age)
        acting = Acting(
            environment_indices=torch.arange(count, device=self._device),
            generator=self._generator,
            agent_steps=self.agent_steps,
            greedy=torch.ones(count, dtype=torch.bool, device=self._device) if greedy else None,
        )
        decision = self._algorithm.act(self._network, inputs, memory.state, acting)
        sent = tuple(action.cpu().numpy() for action in decision.sent)
        if not all(np.isfinite(action).all() for action in sent):
            raise DivergedError("expected finite actions: what this run has learnt is not finite any more")
        kept = tuple(stack[:, 1:] for stack in inputs.observations)
        return sent, Memory(memory.single, memory.age + 1, decision.state, sent, kept)

    @torch.inference_mode()
    def numbers(self, rows: Sequence[Array], memory: Memory, reward: Any = None) -> dict[str, NDArray[Any]]:
        """What the best actions follow from, by name, `[N, ...]`: see `Best.numbers`. Arguments as of `answer`."""
        best = self._algorithm.best(self._network, self._inputs(rows, memory, reward), memory.state)
        return {name: numbers.cpu().numpy() for name, numbers in best.numbers.items()}

    def exported(self) -> ExportedPolicy:
        """What `seedbed export` writes: this policy as a function of tensors. Meant for policies in float32."""
        return ExportedPolicy(
            self._algorithm,
            self._network,
            self.rows,
            histories=self._layout.histories,
            reads_actions=self._reads_reward,
            agent_steps=self.agent_steps,
            algorithm_name=self.algorithm,
            task=self._task,
        )

    def _inputs(self, rows: Sequence[Array], memory: Memory, reward: Any) -> Inputs:
        arrays, first = [self._put(array) for array in rows], memory.age == 0
        position = self.rows.mask_position
        allowed = None if position is None else arrays.pop(position)
        return Inputs(
            observations=self._stacks(arrays, memory, first),
            step_type=self._put(np.where(first, StepType.FIRST, StepType.MID).astype(np.uint8)),
            reward=self._put(self._rewards(reward, first)),
            last_action=tuple(self._put(_zero_where(first, action)) for action in memory.last_action),
            mask=allowed,
            task=None if self._task is None else torch.full((len(first),), self._task, device=self._device),
        )

    def _stacks(self, newest: list[Tensor], memory: Memory, first: NDArray[np.bool_]) -> tuple[Tensor, ...]:
        """`[N, K, ...]` for each array; frames of an earlier episode are zero."""
        stacks = []
        layout = self._layout
        for frame, spec, before, block in zip(newest, self.rows.shown, memory.frames, layout.blocks, strict=True):
            stack = torch.cat((before, as_stored(frame, spec, block).unsqueeze(1)), 1)
            stack[self._put(first), :-1] = 0
            stacks.append(stack)
        return tuple(stacks)

    def _rewards(self, reward: Any, first: NDArray[np.bool_]) -> NDArray[np.float32]:
        if reward is None:
            if self._reads_reward and not first.all():
                raise UsageError("expected reward=, that of the step before: this policy's memory reads it")
            return np.zeros(len(first), np.float32)
        given = np.asarray(reward, np.float32)
        if given.shape not in ((), first.shape) or not np.isfinite(given).all():
            raise UsageError(f"expected {len(first)} finite numbers as reward=, got {reward!r:.100}")
        return np.where(first, np.float32(0), given)

    def _put(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self._device)


def _zero_where(first: NDArray[np.bool_], actions: NDArray[Any]) -> NDArray[Any]:
    """A copy of `[N, ...]` whose rows that `first` `[N]` names are zero."""
    actions = actions.copy()
    actions[first] = 0
    return actions
