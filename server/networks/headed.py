"""The network that most algorithms learn: a body, and heads on its features.

Shapes: N inference batch, T rows, B unrolls, F features.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.body import Body
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.options.network import NetworkConfig


class HeadedNetwork(PolicyNetwork):
    """Base of networks that differ in their heads alone, which are float32 whatever the torso computes in.

    Args:
        shown, space, config: see `Body`.

    Raises:
        SpecError: the observations are not what the torso can read.
    """

    def __init__(self, shown: tuple[ArraySpec, ...], space: ActionSpace, config: NetworkConfig) -> None:
        super().__init__()
        self.body = Body(shown, space, config)
        self.blocks = self.body.blocks

    @abstractmethod
    def heads(self, features: Tensor) -> Any:
        """Features `[..., F]` to outputs."""

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """See `PolicyNetwork`."""
        return self.body.initial_state(batch_size, device)

    def step(self, inputs: Inputs, state: AgentState) -> tuple[Any, AgentState]:
        """See `PolicyNetwork`."""
        features, state = self.body.step(inputs, state)
        return self.heads(features), state

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[Any, AgentState]:
        """See `PolicyNetwork`."""
        features, state = self.body.unroll(inputs, state)
        return self.heads(features), state

    def store_for_acting(self) -> None:
        """See `PolicyNetwork` and `Body.store_for_acting`."""
        self.body.store_for_acting()
