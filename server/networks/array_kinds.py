"""Kinds of observation arrays: which are images, how these lie in memory, how many frames of each are seen at once.

`common.image_layout` says what an image is. Everything else is a vector or one of a few values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seedbed.common.image_layout import image_layout
from seedbed.common.specs import MAX_BOUNDS, ArraySpec

SMALL = 32
"""Pixels; an image with a shorter side is read without strides, and its bytes may be categories."""

GREY_FRAMES = 4
"""Frames of a grey image that are seen at once: one shows no movement (Mnih et al. 2015)."""


@dataclass(frozen=True, slots=True)
class Image:
    """The layout of an image.

    Attributes:
        height, width, channels: of one frame.
        channels_first: the array is `[c, h, w]`, as from PyTorch's tools or Gymnasium's FrameStackObservation, or
            `[f, h, w, c]` with f * c channels, as from the latter; not `[h, w]` or `[h, w, c]`.
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
    layout = image_layout(replace(spec, kind="box") if spec.kind == "binary" else spec)
    return None if layout is None else Image(*layout.sides, layout.channels, channels_first=layout.places[0] == 1)


def shows_pixels(shown: Sequence[ArraySpec]) -> bool:
    """Whether one of the arrays is an image of `SMALL` pixels a side or more: then steps and updates are dear."""
    return any(map(is_pixels, shown))


def is_pixels(spec: ArraySpec) -> bool:
    """Whether an array is an image of `SMALL` pixels a side or more."""
    image = image_of(spec)
    return image is not None and not image.small


def shows_images(shown: Sequence[ArraySpec]) -> bool:
    """Whether one of the arrays is an image of any size: convolutions take most of an update."""
    return any(image_of(spec) is not None for spec in shown)


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
    return spec.dtype == "uint8" and is_pixels(spec)


def describe(spec: ArraySpec) -> str:
    """An array in people's words, e.g. "a grey image of 84 x 84"."""
    if (image := image_of(spec)) is not None:
        pixels = {} if image.small else {1: "a grey image", 3: "a colour image"}
        colours = pixels.get(image.channels, "an image")
        channels = "" if image.channels == 1 or image.channels in pixels else f" with {image.channels} channels"
        return f"{colours} of {image.height} x {image.width}{channels}"
    if spec.kind == "discrete":
        values = sorted(set(spec.num_values))
        shown = str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
        return f"one of {shown} values" if spec.shape == () else f"{spec.num_elements} times one of {shown} values"
    if spec.kind == "binary":
        return f"{spec.num_elements} bits"
    kind = "number" if spec.dtype == "float32" else "integer"
    return f"one {kind}" if spec.num_elements == 1 else f"{spec.num_elements} {kind}s"
