"""The actor-critic network: a body with a linear policy head and a linear value head.

Shapes: F features, P parameters of the action distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.headed import HeadedNetwork
from seedbed.server.networks.interface import Outputs
from seedbed.server.networks.layers import initialise
from seedbed.server.options.network import NetworkConfig


class ActorCritic(HeadedNetwork):
    """Policy and value of every row.

    Args:
        shown, space, config: see `Body`.

    Raises:
        SpecError: the observations are not what the torso can read.
    """

    def __init__(self, shown: tuple[ArraySpec, ...], space: ActionSpace, config: NetworkConfig) -> None:
        super().__init__(shown, space, config)
        self.policy = PolicyHead(self.body.output_size, space)
        self.value = nn.Linear(self.body.output_size, 1)
        # Nearly uniform at first: a hundredth of the usual scale is the choice with the largest measured effect on
        # learning in Andrychowicz et al. 2021 (arXiv 2006.05990, section 3.2).
        initialise(self.policy, 0.01)
        initialise(self.value, 1.0)

    def heads(self, features: Tensor) -> Outputs:
        """See the base class."""
        return Outputs(policy=self.policy(features), value=self.value(features).squeeze(-1))


class PolicyHead(nn.Linear):
    """Features `[..., F]` to the parameters of an action distribution, `[..., P]`.

    Attributes:
        free: those that do not depend on the row, logarithms of deviations, 0 at first; None where there are none.
    """

    def __init__(self, num_features: int, space: ActionSpace) -> None:
        super().__init__(num_features, space.num_outputs)
        self._space = space
        self.free = nn.Parameter(torch.zeros(space.num_free)) if space.num_free else None

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return self._space.assemble(super().forward(features), self.free)
