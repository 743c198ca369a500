"""Kinds of observation arrays: which are images, how these lie in memory, how many frames of each are seen at once.

An image has three dimensions, two sides of at least 5 among them, or two of at least 16; its values are bytes, or have
finite bounds. Its channels are the last dimension or, where the first is the smaller one, the first: 3 x 84 x 84 as
from PyTorch's tools, 4 x 84 x 84 as from Gymnasium's FrameStackObservation, whose colour images have four dimensions,
4 x 84 x 84 x 3. Everything else is a vector or one of a few values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seedbed.common.specs import MAX_BOUNDS, ArraySpec

LEAST_SIDE = 5
"""Pixels; three dimensions with shorter sides are no image: two convolutions of 3 x 3 leave nothing of them."""

LEAST_PLANE_SIDE = 16
"""Pixels; two dimensions with shorter sides are no image."""

SMALL = 32
"""Pixels; an image with a shorter side is read without strides, and its bytes may be categories."""

GREY_FRAMES = 4
"""Frames of a grey image that are seen at once: one shows no movement (Mnih et al. 2015)."""


@dataclass(frozen=True, slots=True)
class Image:
    """The layout of an image.

    Attributes:
        height, width, channels: of one frame.
        channels_first: the array is `[c, h, w]` or `[f, h, w, c]`, with f * c channels, not `[h, w]` or `[h, w, c]`.
    """

    height: int
    width: int
    channels: int
    channels_first: bool = False

    @property
    def small(self) -> bool:
        """Whether a side is shorter than `SMALL`."""
        return min(self.height, self.width) < SMALL


def image_of(spec: ArraySpec) -> Image | None:
    """The layout of an array that is an image; None of another."""
    if spec.kind == "discrete" or not (spec.dtype == "uint8" or spec.bounded):
        return None
    if len(spec.shape) == 2:
        return Image(*spec.shape, 1) if min(spec.shape) >= LEAST_PLANE_SIDE else None
    if len(spec.shape) == 4:
        frames, height, width, colours = spec.shape
        fits = min(height, width) >= LEAST_SIDE and max(frames, colours) < min(height, width)
        return Image(height, width, frames * colours, channels_first=True) if fits else None
    if len(spec.shape) != 3:
        return None
    first, middle, last = spec.shape
    last_fits, first_fits = min(first, middle) >= LEAST_SIDE, min(middle, last) >= LEAST_SIDE
    if first_fits and (not last_fits or first < min(middle, last)):
        return Image(middle, last, first, channels_first=True)
    return Image(first, middle, last) if last_fits else None


def as_read(spec: ArraySpec) -> ArraySpec:
    """What torsos get for an array: channels last, discrete values from 0."""
    if spec.kind == "discrete":
        return replace(spec, low=(0.0,), high=_flat(spec.upper - spec.lower))
    image = image_of(spec)
    if image is None or not image.channels_first:
        return spec
    shape = (image.height, image.width, image.channels)
    if spec.num_elements > MAX_BOUNDS:  # of so many all have the same bounds
        return replace(spec, shape=shape)
    return replace(
        spec, shape=shape, low=_flat(np.moveaxis(spec.lower, 0, 2)), high=_flat(np.moveaxis(spec.upper, 0, 2))
    )


def _flat(bounds: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(bounds.flatten().tolist())


def frame_stack_of(spec: ArraySpec) -> int:
    """K by rule: 4 of a grey image, 1 of everything else: colours and stacks that come as one array included."""
    image = image_of(spec)
    return GREY_FRAMES if image is not None and image.channels == 1 else 1


def frame_stacks(shown: Sequence[ArraySpec], frame_stack: int | None) -> tuple[int, ...]:
    """K of each array that is shown.

    Args:
        shown: their specs.
        frame_stack: the same for all; None: by rule, each its own.
    """
    return tuple(frame_stack_of(spec) if frame_stack is None else frame_stack for spec in shown)


def computes_in_half(spec: ArraySpec) -> bool:
    """Whether bfloat16 may read an array: pixels alone.

    Whole numbers up to 256 are exact in it, and 10 and 10.03 are the same.
    """
    image = image_of(spec)
    return image is not None and spec.dtype == "uint8" and not image.small


def describe(spec: ArraySpec) -> str:
    """An array in people's words, e.g. "a grey image of 84 x 84"."""
    if (image := image_of(spec)) is not None:
        colours = {1: "a grey image", 3: "a colour image"}.get(image.channels, "an image")
        channels = "" if image.channels in (1, 3) else f" with {image.channels} channels"
        return f"{colours} of {image.height} x {image.width}{channels}"
    if spec.kind == "discrete":
        values = sorted(set(spec.num_values))
        shown = str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
        return f"one of {shown} values" if spec.shape == () else f"{spec.num_elements} times one of {shown} values"
    if spec.kind == "binary":
        return f"{spec.num_elements} bits"
    kind = "number" if spec.dtype == "float32" else "integer"
    return f"one {kind}" if spec.num_elements == 1 else f"{spec.num_elements} {kind}s"
