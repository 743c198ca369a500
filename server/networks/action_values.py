"""A plain Q-network: a body with one linear head (Mnih et al. 2015; the asynchronous methods, arXiv 1602.01783).

Shapes: F features, A actions.
"""

from __future__ import annotations

from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.headed import HeadedNetwork
from seedbed.server.networks.interface import ActionValues
from seedbed.server.networks.layers import initialise
from seedbed.server.options.network import NetworkConfig


class QNetwork(HeadedNetwork):
    """Q-values of every row, for one discrete action.

    Args:
        shown, space, config: see `Body`.

    Raises:
        SpecError: the observations are not what the torso can read.
    """

    def __init__(self, shown: tuple[ArraySpec, ...], space: ActionSpace, config: NetworkConfig) -> None:
        super().__init__(shown, space, config)
        self.values = nn.Linear(self.body.output_size, space.param_size)
        initialise(self.values, 0.1)  # values start near 0, where most rewards are

    def heads(self, features: Tensor) -> ActionValues:
        """See the base class."""
        return ActionValues(self.values(features))
