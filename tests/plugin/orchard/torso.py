"""Attention over the frames of a vector: one layer of a transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.torsos import Torso

_WIDTH = 32


class Attention(Torso):
    """Reads K stacked frames as K tokens."""

    def __init__(
        self, shown: tuple[ArraySpec, ...], frame_stack: int, dtype: torch.dtype, background: float = 0.0
    ) -> None:
        super().__init__(_WIDTH, torch.float32)  # torch's own layers compute in the dtype of their weights
        size = sum(spec.num_elements for spec in shown)
        self.tokens = nn.Linear(size, _WIDTH)
        self.places = nn.Parameter(torch.zeros(frame_stack, _WIDTH))
        self.layer = nn.TransformerEncoderLayer(_WIDTH, nhead=4, dim_feedforward=64, dropout=0.0, batch_first=True)

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """See `Torso`."""
        frames = torch.cat([array.flatten(2).float() for array in observations], dim=-1)
        attended: Tensor = self.layer(self.tokens(frames) + self.places)
        return attended[:, -1]
