"""The dueling network: a body, then the value of a row and the advantage of each action (arXiv 1511.06581).

Shapes: F features, A actions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.headed import HeadedNetwork
from seedbed.server.networks.interface import ActionValues
from seedbed.server.networks.layers import HIDDEN_GAIN, initialise, layer_norm
from seedbed.server.options.network import NetworkConfig


class Dueling(HeadedNetwork):
    """Q-values of every row, for one discrete action.

        Q(s, a) = V(s) + A(s, a) - mean over b of A(s, b)

    so a constant added to all advantages changes nothing; their last layer therefore has no bias, as in SEED RL. The
    mean is over all actions, those that a mask forbids included: V is free to make up for it.

    Args:
        shown, space, config: see `Body`.
        head_size: width of the hidden layer of each head.

    Raises:
        SpecError: the observations are not what the torso can read.
    """

    def __init__(
        self, shown: tuple[ArraySpec, ...], space: ActionSpace, config: NetworkConfig, *, head_size: int
    ) -> None:
        super().__init__(shown, space, config)
        self.value = _Head(self.body.output_size, head_size, 1, config, bias=True)
        self.advantage = _Head(self.body.output_size, head_size, space.param_size, config, bias=False)

    def heads(self, features: Tensor) -> ActionValues:
        """See the base class."""
        advantage = self.advantage(features)
        return ActionValues(self.value(features) + advantage - advantage.mean(-1, keepdim=True))


class _Head(nn.Module):
    """One hidden layer, then a linear one: `[..., F]` to `[..., outputs]`."""

    def __init__(self, num_features: int, size: int, num_outputs: int, config: NetworkConfig, *, bias: bool) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_features, size)
        self.norm = layer_norm(size, config)
        self.output = nn.Linear(size, num_outputs, bias=bias)
        initialise(self.hidden, HIDDEN_GAIN)
        initialise(self.output, 0.1)  # values start near 0, where most rewards are

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        result: Tensor = self.output(torch.relu(self.norm(self.hidden(features))))
        return result
