"""What goes into a network, what comes out, and the state it carries between rows.

A network reads *rows*: one row is a timestep and the action before it. `step` takes N rows of different environments,
`unroll` takes T consecutive rows of each of B environments; both give the same numbers for the same rows.

Shapes: N inference batch, T rows, B unrolls, K stacked frames, A actions, P parameters of an action distribution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

AgentState = tuple[Tensor, ...]
"""State before a row, each `[B, ...]` of a dtype of its own; empty for a feed-forward network. Zero at FIRST."""


class Inputs(NamedTuple):
    """Rows with leading dimensions `[N]` for `step` and `[T, B]` for `unroll`.

    Attributes:
        observations: one `[..., K, *spec.shape]` for each observation array, the newest of K frames last, frames from
            before the episode's start zeroed by the caller. K is 1 without stacking. Arrays come in the network's
            `blocks`, which is quicker, or as they are.
        step_type: uint8 `[...]`, values of `StepType`.
        reward: float32 `[...]`, raw, of the transition that led to the row.
        last_action: one `[..., *spec.shape]` for each action array, as it was sent in answer to the row before; ignored
            at FIRST.
        mask: uint8 `[..., M]`, 1 for the values of discrete actions that are allowed (`ROLE_ACTION_MASK` of the wire);
            None where the environment has no mask.
        task: int64 `[...]`, which of the run's tasks the row belongs to; None where there is one.
    """

    observations: tuple[Tensor, ...]
    step_type: Tensor
    reward: Tensor
    last_action: tuple[Tensor, ...]
    mask: Tensor | None = None
    task: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Inputs:
        """Applies `function` to every tensor."""
        return Inputs(
            tuple(map(function, self.observations)),
            function(self.step_type),
            function(self.reward),
            tuple(map(function, self.last_action)),
            None if self.mask is None else function(self.mask),
            None if self.task is None else function(self.task),
        )


class Outputs(NamedTuple):
    """What an actor-critic says about each row.

    Attributes:
        policy: parameters of the action distribution, float32 `[..., P]`; see `distributions.ActionSpace`.
        value: float32 `[...]`.
    """

    policy: Tensor
    value: Tensor


class ActionValues(NamedTuple):
    """What a Q-network says about each row.

    Attributes:
        q_values: float32 `[..., A]`.
    """

    q_values: Tensor


class PolicyNetwork(nn.Module, ABC):
    """What inference and an algorithm ask of a network. Master weights are float32.

    Outputs are the algorithm's affair: `Outputs`, `ActionValues` or a tuple of its own.

    Attributes:
        blocks: of each observation array that is shown, the edge of the blocks in which its pixels are read; see
            `observations.to_blocks`. Frames are put into that order once, when they arrive. Empty: all as they are.
    """

    blocks: tuple[int, ...] = ()

    @abstractmethod
    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """The state at the start of an episode, each `[batch_size, ...]`; empty without a recurrent core."""

    @abstractmethod
    def step(self, inputs: Inputs, state: AgentState) -> tuple[Any, AgentState]:
        """One row of each of N environments, and the state before it, to outputs `[N]` and the state after it."""

    @abstractmethod
    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[Any, AgentState]:
        """T rows of each of B environments, and the state before row 0, to outputs `[T, B]` and the state after."""

    @abstractmethod
    def store_for_acting(self) -> None:
        """Makes this a copy that acts and is never trained: parts may be kept in the precision they compute in."""
