"""Normalisers of observations: the first layer of a network, with which vectors have mean 0 and spread 1.

    x' = clip((x - mean) / sqrt(variance + 1e-8), -10, 10)

Which arrays: vectors of numbers, each element by itself, and images with a side below 32 pixels, each channel by
itself. Larger images are scaled by their bounds; values that stand for one of a few, and bits, are no quantities. What
the moments are is learnt from train batches (`moments.py`) and written into all normalisers after an update, so that a
row has the same policy where it was acted on and where it is learnt from, for the same version.

Shapes: N rows, K stacked frames, E elements of a vector or channels of an image, P places that share moments: 1 of a
vector, pixels of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.array_kinds import image_of

CLIP = 10.0
EPSILON = 1e-8


def is_normalised(spec: ArraySpec) -> bool:
    """Whether an array is of a kind that has moments."""
    image = image_of(spec)
    return spec.kind == "box" and (image is None or image.small)


def as_normalised(spec: ArraySpec) -> ArraySpec:
    """What torsos get for an array with moments.

    Floats whose bounds are one standard deviation: those that scale by bounds leave them as they are.
    """
    return replace(spec, dtype="float32", low=(-1.0,), high=(1.0,))


class Normaliser(nn.Module):
    """One array, with the moments as they are published.

    Args:
        spec: of the array as torsos read it, see `array_kinds.as_read`.

    Attributes:
        mean, inv_std: float32 `[E]`. Until something was shown, floats stay as they are, and integers become shares of
            their bounds.
    """

    mean: Tensor
    inv_std: Tensor

    def __init__(self, spec: ArraySpec) -> None:
        super().__init__()
        image = image_of(spec)
        self.size = spec.num_elements if image is None else image.channels
        mean, inv_std = torch.zeros(self.size), torch.ones(self.size)
        if spec.dtype != "float32" and spec.bounded:
            low = spec.lower.reshape(-1, self.size).min(axis=0)
            spread = spec.upper.reshape(-1, self.size).max(axis=0) - low
            mean = torch.tensor(low, dtype=torch.float32)
            inv_std = torch.tensor(1.0 / np.where(spread == 0, 1.0, spread), dtype=torch.float32)
        self.register_buffer("mean", mean)
        self.register_buffer("inv_std", inv_std)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, K, ...]`, channels last, in blocks or not, to float32 of the same shape."""
        places = self.places(x.float())
        return ((places - self.mean) * self.inv_std).clamp(-CLIP, CLIP).reshape(x.shape)

    def places(self, x: Tensor) -> Tensor:
        """`[N, K, ...]` to `[N, K, P, E]`: in blocks, too, the channels of a pixel stand side by side."""
        return x.reshape(*x.shape[:2], -1, self.size)


class Normalisers(nn.ModuleList):
    """One for each array that is shown; those without moments pass.

    Args:
        shown: specs of the arrays as torsos read them.
    """

    def __init__(self, shown: Sequence[ArraySpec]) -> None:
        super().__init__(Normaliser(spec) if is_normalised(spec) else nn.Identity() for spec in shown)

    @property
    def active(self) -> list[Normaliser]:
        """Those with moments, in the order of their arrays."""
        return [module for module in self if isinstance(module, Normaliser)]
