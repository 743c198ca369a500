"""Arrays that are images, how these lie in memory, and what large ones cost on the way.

An image has three dimensions, two sides of at least 5 among them, or two of at least 16; its values are bytes, or have
finite bounds. Its channels are the last dimension or, where the first is the smaller one, the first. Stacked colour
frames have four dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

from seedbed.common.specs import ArraySpec, EnvironmentSpec

LEAST_SIDE = 5
"""Pixels; three dimensions with shorter sides are no image: two convolutions of 3 x 3 leave nothing of them."""

LEAST_PLANE_SIDE = 16
"""Pixels; two dimensions with shorter sides are no image."""

LARGE_SIDE = 128
"""Pixels: a larger image costs so much on the way that its user should know."""

_USUAL_SIDE = 84
"""Pixels (Mnih et al. 2015)."""


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """The dimensions of an image.

    Attributes:
        sides: height and width.
        places: where they are among the dimensions.
        colours: last dimension where the sides come before it; 1 where there is none.
        channels: of all other dimensions together.
    """

    sides: tuple[int, int]
    places: tuple[int, int]
    colours: int
    channels: int


def image_layout(spec: ArraySpec) -> ImageLayout | None:
    """The layout of an array that is an image; None of another."""
    if spec.kind != "box" or spec.role != "value" or not (spec.dtype == "uint8" or spec.bounded):
        return None
    shape = spec.shape
    if len(shape) == 2:
        return ImageLayout((shape[0], shape[1]), (0, 1), 1, 1) if min(shape) >= LEAST_PLANE_SIDE else None
    if len(shape) == 4:
        frames, height, width, colours = shape
        fits = min(height, width) >= LEAST_SIDE and max(frames, colours) < min(height, width)
        return ImageLayout((height, width), (1, 2), colours, frames * colours) if fits else None
    if len(shape) != 3:
        return None
    first, middle, last = shape
    last_fits, first_fits = min(first, middle) >= LEAST_SIDE, min(middle, last) >= LEAST_SIDE
    if first_fits and (not last_fits or first < min(middle, last)):
        return ImageLayout((middle, last), (1, 2), first, first)
    return ImageLayout((first, middle), (0, 1), last, last) if last_fits else None


def cost_remark(spec: EnvironmentSpec) -> str | None:
    """What a large image costs and how it becomes smaller; None where all are small."""
    for array in spec.observations:
        layout = image_layout(array)
        if layout is None or max(layout.sides) <= LARGE_SIDE:
            continue
        share = min(1.0, _USUAL_SIDE / min(layout.sides))
        height, width = (round(side * share) for side in layout.sides)
        grey = " and --grey" if layout.colours == 3 else ""
        return (
            f"{array.name!r}, {array}, costs {array.row_bytes:,} bytes a step of each environment on the way to the "
            f"server: --image-size {height}x{width}{grey} would shrink it before it travels"
        )
    return None
