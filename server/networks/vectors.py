"""Torso for everything that is no image: the numbers of all arrays, and two layers over them.

    floats           as they are
    integers         shares of their bounds where these are close, else squashed (`observations.squash`)
    one of n values  one-hot up to 64, an embedding up to 65,536, a squashed number beyond
    bits             0 and 1
    images           scaled, every pixel by itself

Shapes: N rows, K stacked frames, E elements of an array.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.array_kinds import image_of
from seedbed.server.networks.layers import HIDDEN_GAIN, Linear, initialise, layer_norm
from seedbed.server.networks.observations import has_many_values, input_scale, squash
from seedbed.server.networks.torso import Torso
from seedbed.server.options.network import NetworkConfig

MOST_ONE_HOT = 64
MOST_EMBEDDED = 2**16

_EMBEDDING_SIZE = 64
_ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class Flat(Torso):
    """The numbers of all observations, side by side, without a layer: for algorithms whose heads have layers enough."""

    def __init__(self, shown: Sequence[ArraySpec], config: NetworkConfig, frame_stacks: Sequence[int]) -> None:
        """See `Torso`."""
        super().__init__(shown, config, frame_stacks)
        readers = [numbers_of(spec) for spec in shown]
        pairs = zip(readers, frame_stacks, strict=True)
        self.output_size = sum(numbers.size * frame_stack for numbers, frame_stack in pairs)
        self.numbers = nn.ModuleList(readers)

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """See `Torso`."""
        pairs = zip(self.numbers, observations, strict=True)
        flat = [numbers(x.reshape(*x.shape[:2], -1)).flatten(1) for numbers, x in pairs]
        return flat[0] if len(flat) == 1 else torch.cat(flat, dim=-1)


class MLP(Flat):
    """Fully connected layers over all observations, `--layer-sizes` and `--activation`.

    Tanh does better than ReLU on small control tasks (arXiv 2006.05990, section 3.2).
    """

    def __init__(self, shown: Sequence[ArraySpec], config: NetworkConfig, frame_stacks: Sequence[int]) -> None:
        """See `Torso`."""
        super().__init__(shown, config, frame_stacks)
        layers = [Linear(*pair) for pair in itertools.pairwise((self.output_size, *config.widths))]
        for layer in layers:
            initialise(layer, HIDDEN_GAIN)
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(layer_norm(size, config) for size in config.widths)
        self.output_size = config.widths[-1]
        self._activation = _ACTIVATIONS[config.activation]

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """See `Torso`."""
        x = super().forward(observations)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self._activation(norm(layer(x)))
        return x


class Numbers(nn.Module):
    """The elements of an array as float32 numbers, a size of them each frame: `[N, K, E]` to `[N, K, size]`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """As they are."""
        return x.float()


def numbers_of(spec: ArraySpec) -> Numbers:
    """How the elements of an array become numbers."""
    if spec.kind == "discrete":
        return Choices(spec)
    if spec.kind == "binary" or spec.dtype == "float32":
        return Numbers(spec.num_elements)
    image = image_of(spec)
    if image is not None and not image.small:
        return Scaled(spec.num_elements, 0.0, input_scale(spec))
    if has_many_values(spec):
        return Squashed(spec.num_elements)
    spread = (spec.upper - spec.lower).flatten()
    return Scaled(spec.num_elements, spec.lower.flatten(), 1.0 / np.where(spread == 0, 1.0, spread))


class Squashed(Numbers):
    """Integers of a wide range."""

    def forward(self, x: Tensor) -> Tensor:
        """See `observations.squash`."""
        return squash(x.float())


class Scaled(Numbers):
    """Integers of a narrow range, as shares of it."""

    _low: Tensor
    _scale: Tensor

    def __init__(self, size: int, low: object, scale: object) -> None:
        super().__init__(size)
        self.register_buffer("_low", torch.tensor(low, dtype=torch.float32), persistent=False)
        self.register_buffer("_scale", torch.tensor(scale, dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """0 at the lower bound, 1 at the upper."""
        return (x.float() - self._low) * self._scale


class Choices(Numbers):
    """Elements that are one of a few values each, counted from 0.

    A value that is out of range, as in frames from before the episode, is none of them.
    """

    _element: Tensor
    _value: Tensor
    _embedded: Tensor
    _offset: Tensor
    _last: Tensor
    _counted: Tensor

    def __init__(self, spec: ArraySpec) -> None:
        counts = spec.num_values
        one_hot = [(e, value) for e, n in enumerate(counts) if n <= MOST_ONE_HOT for value in range(n)]
        embedded = [e for e, n in enumerate(counts) if MOST_ONE_HOT < n <= MOST_EMBEDDED]
        counted = [e for e, n in enumerate(counts) if n > MOST_EMBEDDED]
        super().__init__(len(one_hot) + _EMBEDDING_SIZE * len(embedded) + len(counted))
        rows = [counts[e] for e in embedded]
        buffers = {
            "_element": [e for e, _ in one_hot],
            "_value": [value for _, value in one_hot],
            "_embedded": embedded,
            "_offset": np.cumsum([0, *rows])[:-1].tolist(),
            "_last": [n - 1 for n in rows],
            "_counted": counted,
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)
        self.table = nn.Embedding(sum(rows), _EMBEDDING_SIZE) if embedded else None

    def forward(self, x: Tensor) -> Tensor:
        """One-hot elements first, then embedded ones, then numbers."""
        parts = [(x.index_select(2, self._element) == self._value).float()] if len(self._element) else []
        if self.table is not None:
            chosen = x.index_select(2, self._embedded).long().clamp(min=0).minimum(self._last)
            parts.append(self.table(chosen + self._offset).flatten(2))
        if len(self._counted):
            parts.append(squash(x.index_select(2, self._counted).float()))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
