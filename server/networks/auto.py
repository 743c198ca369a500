"""Torso for any observations: an encoder for each array, by what it is, and one layer over them where they are several.

    image                             IMPALA's small network, as --torso impala_shallow
    image with a side below 32 pixels convolutions without strides
    everything else                   two layers, as --torso mlp

Shapes: N rows, K stacked frames, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.array_kinds import image_of
from seedbed.server.networks.images import ImpalaShallow, SmallImage
from seedbed.server.networks.layers import HIDDEN_GAIN, Linear, initialise, layer_norm
from seedbed.server.networks.torso import Torso
from seedbed.server.networks.vectors import MLP
from seedbed.server.options.network import NetworkConfig

_MERGED_SIZE = 256


class Auto(Torso):
    """The torso behind `--torso auto`, the default; a single array's encoder alone is all of it."""

    def __init__(self, shown: Sequence[ArraySpec], config: NetworkConfig, frame_stacks: Sequence[int]) -> None:
        """See `Torso`."""
        super().__init__(shown, config, frame_stacks)
        pairs = zip(shown, frame_stacks, strict=True)
        encoders = [encoder_of(spec)((spec,), config, (frame_stack,)) for spec, frame_stack in pairs]
        self.blocks = tuple(encoder.blocks[0] for encoder in encoders)
        sizes = [encoder.output_size for encoder in encoders]
        self.output_size = sizes[0] if len(sizes) == 1 else _MERGED_SIZE
        self.encoders = nn.ModuleList(encoders)
        self.merge = None
        if len(sizes) > 1:
            self.merge = Linear(sum(sizes), _MERGED_SIZE)
            initialise(self.merge, HIDDEN_GAIN)
            self.norm = layer_norm(_MERGED_SIZE, config)

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """See `Torso`."""
        features = [encoder((x,)) for encoder, x in zip(self.encoders, observations, strict=True)]
        if self.merge is None:
            return features[0]
        return torch.relu(self.norm(self.merge(torch.cat([part.float() for part in features], dim=-1))))

    def store_for_acting(self) -> None:
        """See `Torso`: each encoder for itself, since they may differ in what they compute in."""
        for encoder in self.encoders:
            assert isinstance(encoder, Torso)
            encoder.store_for_acting()


def encoder_of(spec: ArraySpec) -> type[ImpalaShallow | SmallImage | MLP]:
    """The torso that reads an array."""
    image = image_of(spec)
    if image is None:
        return MLP
    return SmallImage if image.small else ImpalaShallow
