"""The dueling network: a body, then the value of a row and the advantage of each action (arXiv 1511.06581).

Shapes: N inference batch, T rows, B unrolls, F features, A actions, H state width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.body import Body
from seedbed.server.networks.interface import ActionValues, AgentState, Inputs, PolicyNetwork
from seedbed.server.networks.layers import HIDDEN_GAIN, initialise


class Dueling(PolicyNetwork):
    """Q-values of every row, in float32 whatever the torso computes in: with an LSTM as in R2D2, or feed-forward.

        Q(s, a) = V(s) + A(s, a) - mean over b of A(s, b)

    so a constant added to all advantages changes nothing; their last layer therefore has no bias, as in SEED RL.

    Args:
        observation_specs: of one frame.
        num_actions: A.
        head_size: width of the hidden layer of each head.
        **body_options: see `Body`.

    Raises:
        SpecError: the observations are not what the torso can read.
        ValueError: an option makes no sense.
    """

    def __init__(
        self, observation_specs: tuple[ArraySpec, ...], num_actions: int, *, head_size: int, **body_options: Any
    ) -> None:
        super().__init__()
        self.body = Body(observation_specs, num_actions, **body_options)
        self.blocks = (self.body.torso.block,) * len(observation_specs)
        self.value = _Head(self.body.output_size, head_size, 1, bias=True)
        self.advantage = _Head(self.body.output_size, head_size, num_actions, bias=False)

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """See `PolicyNetwork`."""
        return self.body.initial_state(batch_size, device)

    def step(self, inputs: Inputs, state: AgentState) -> tuple[ActionValues, AgentState]:
        """See `PolicyNetwork`."""
        features, state = self.body.step(inputs, state)
        return self._heads(features), state

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[ActionValues, AgentState]:
        """See `PolicyNetwork`."""
        features, state = self.body.unroll(inputs, state)
        return self._heads(features), state

    def store_for_acting(self) -> None:
        """See `PolicyNetwork` and `Body.store_for_acting`."""
        self.body.store_for_acting()

    def _heads(self, features: Tensor) -> ActionValues:
        advantage = self.advantage(features)
        return ActionValues(self.value(features) + advantage - advantage.mean(-1, keepdim=True))


class _Head(nn.Module):
    """One hidden layer, then a linear one: `[..., F]` to `[..., outputs]`."""

    def __init__(self, num_features: int, size: int, num_outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_features, size)
        self.output = nn.Linear(size, num_outputs, bias=bias)
        initialise(self.hidden, HIDDEN_GAIN)
        initialise(self.output, 0.1)  # values start near 0, where most rewards are

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        result: Tensor = self.output(torch.relu(self.hidden(features)))
        return result
