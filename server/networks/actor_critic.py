"""The actor-critic network: a body with a linear policy head and a linear value head.

Shapes: N inference batch, T rows, B unrolls, A actions, H state width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.body import Body
from seedbed.server.networks.interface import AgentState, Inputs, Outputs, PolicyNetwork
from seedbed.server.networks.layers import initialise


class ActorCritic(PolicyNetwork):
    """Logits and value of every row, in float32 whatever the torso computes in.

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
        self.blocks = (self.body.torso.block,) * len(observation_specs)
        self.policy = nn.Linear(self.body.output_size, num_actions)
        self.value = nn.Linear(self.body.output_size, 1)
        # Nearly uniform at first: a hundredth of the usual scale is the choice with the largest measured effect on
        # learning in Andrychowicz et al. 2021 (arXiv 2006.05990, section 3.2).
        initialise(self.policy, 0.01)
        initialise(self.value, 1.0)

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """See `PolicyNetwork`."""
        return self.body.initial_state(batch_size, device)

    def step(self, inputs: Inputs, state: AgentState) -> tuple[Outputs, AgentState]:
        """See `PolicyNetwork`."""
        features, state = self.body.step(inputs, state)
        return self._heads(features), state

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[Outputs, AgentState]:
        """See `PolicyNetwork`."""
        features, state = self.body.unroll(inputs, state)
        return self._heads(features), state

    def store_for_acting(self) -> None:
        """See `PolicyNetwork` and `Body.store_for_acting`."""
        self.body.store_for_acting()

    def _heads(self, features: Tensor) -> Outputs:
        return Outputs(logits=self.policy(features), value=self.value(features).squeeze(-1))
