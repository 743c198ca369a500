"""A plain Q-network: a body with one linear head (Mnih et al. 2015; the asynchronous methods, arXiv 1602.01783).

Shapes: N inference batch, T rows, B unrolls, F features, A actions, H state width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.body import Body
from seedbed.server.networks.interface import ActionValues, AgentState, Inputs, PolicyNetwork
from seedbed.server.networks.layers import initialise


class QNetwork(PolicyNetwork):
    """Q-values of every row, in float32 whatever the torso computes in.

    Args:
        observation_specs: of one frame.
        num_actions: A.
        **body_options: see `Body`.

    Raises:
        SpecError: the observations are not what the torso can read.
        ValueError: an option makes no sense.
    """

    def __init__(self, observation_specs: tuple[ArraySpec, ...], num_actions: int, **body_options: Any) -> None:
        super().__init__()
        self.body = Body(observation_specs, num_actions, **body_options)
        self.values = nn.Linear(self.body.output_size, num_actions)
        initialise(self.values, 0.1)  # values start near 0, where most rewards are

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """See `PolicyNetwork`."""
        return self.body.initial_state(batch_size, device)

    def step(self, inputs: Inputs, state: AgentState) -> tuple[ActionValues, AgentState]:
        """See `PolicyNetwork`."""
        features, state = self.body.step(inputs, state)
        return ActionValues(self.values(features)), state

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[ActionValues, AgentState]:
        """See `PolicyNetwork`."""
        features, state = self.body.unroll(inputs, state)
        return ActionValues(self.values(features)), state

    def store_for_acting(self) -> None:
        """See `PolicyNetwork` and `Body.store_for_acting`."""
        self.body.store_for_acting()
