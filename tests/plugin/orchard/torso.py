"""Attention over the frames of a vector: one layer of a transformer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.torso import Torso
from seedbed.server.options.network import NetworkConfig


class Attention(Torso):
    """Reads K stacked frames as K tokens."""

    output_size = 32

    def __init__(self, shown: Sequence[ArraySpec], config: NetworkConfig, frame_stacks: Sequence[int]) -> None:
        super().__init__(shown, config, frame_stacks)
        self.tokens = nn.Linear(sum(spec.num_elements for spec in shown), self.output_size)
        self.places = nn.Parameter(torch.zeros(frame_stacks[0], self.output_size))
        self.layer = nn.TransformerEncoderLayer(
            self.output_size, nhead=4, dim_feedforward=64, dropout=0.0, batch_first=True
        )

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """See `Torso`."""
        frames = torch.cat([array.flatten(2).float() for array in observations], dim=-1)
        attended: Tensor = self.layer(self.tokens(frames) + self.places)
        return attended[:, -1]
