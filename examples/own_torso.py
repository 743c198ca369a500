"""A torso of one's own: vectors as waves of several lengths (Fourier features, arXiv 2006.10739), then two layers.

    cd examples
    seedbed train --env own_environment:Corridor --torso own_torso:Waves

docs/networks.md says what a torso must keep to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec
from seedbed.server.networks.torso import Torso
from seedbed.server.options.network import NetworkConfig

NUM_WAVES = 4


class Waves(Torso):
    """Reads numbers; not images, and nothing discrete."""

    output_size = 64

    def __init__(self, shown: Sequence[ArraySpec], config: NetworkConfig, frame_stacks: Sequence[int]) -> None:
        super().__init__(shown, config, frame_stacks)
        if any(spec.dtype != "float32" for spec in shown):
            raise SpecError(f"expected vectors of floats, got {', '.join(map(str, shown))}")
        sizes = [spec.num_elements * frame_stack for spec, frame_stack in zip(shown, frame_stacks, strict=True)]
        features = sum(sizes) * (1 + 2 * NUM_WAVES)
        self.layers = nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, self.output_size), nn.Tanh())
        self.frequencies: Tensor
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(NUM_WAVES), persistent=False)

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """`[N, K, *shape]` each to `[N, 64]`."""
        numbers = torch.cat([array.flatten(1).float() for array in observations], dim=-1)
        angles = (numbers.unsqueeze(-1) * self.frequencies).flatten(1)
        return self.layers(torch.cat((numbers, angles.sin(), angles.cos()), dim=-1))
