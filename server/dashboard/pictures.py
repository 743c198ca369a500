"""Pictures of observations: which arrays are images, how their values become pixels, and many of them in one atlas.

Shapes: N rows; H, W pixels of a tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seedbed.common.array_spec import ArraySpec
from seedbed.common.image_layout import ImageLayout, image_layout

PartKind = Literal["image", "vector", "summary"]
"""How an array is shown: as a picture, as a bar for each number, or as least, mean and greatest of its many numbers."""

MAX_BARS = 64
"""Numbers of an array that are shown one by one."""

_MAX_PIXELS = 1 << 20
"""Of an atlas; with more environments tiles are thinned out to every second or third pixel."""

_SMALL = 32
"""Pixels; an image with a shorter side may hold kinds of things instead of shades."""

_FEW = 63
"""Greatest byte of an image whose values are kinds of things."""

_PALETTE = np.array(
    [
        [230, 230, 230],
        [230, 80, 60],
        [70, 150, 240],
        [90, 200, 90],
        [240, 200, 60],
        [190, 100, 220],
        [70, 210, 210],
        [240, 140, 60],
        [150, 150, 150],
        [240, 130, 180],
    ],
    np.uint8,
)
"""Colours of the channels of images that are bits, such as MinAtar's."""


def part_kind(spec: ArraySpec) -> PartKind:
    """How an observation array is shown."""
    if layout_of(spec) is not None:
        return "image"
    return "vector" if spec.num_elements <= MAX_BARS else "summary"


def layout_of(spec: ArraySpec) -> ImageLayout | None:
    """The layout of an array that is an image; None of another."""
    return image_layout(replace(spec, kind="box") if spec.kind == "binary" else spec)


def white_of(spec: ArraySpec, rows: NDArray[Any], white: int) -> int:
    """The byte that is shown as white: 255, or the greatest seen of a small image that counts kinds of things.

    MiniGrid, for one, has values up to 10 in a space up to 255.

    Args:
        spec: of the array; an image.
        rows: `[N, *spec.shape]`, seen now.
        white: of what was seen before; 0 at first.
    """
    layout = layout_of(spec)
    if layout is None or spec.dtype != "uint8" or max(spec.high) < 255 or min(layout.sides) >= _SMALL:
        return 255
    seen = max(white, int(rows.max(initial=0)))
    return seen if seen <= _FEW else 255


def to_pixels(spec: ArraySpec, rows: NDArray[Any], step: int = 1, white: int = 255) -> NDArray[np.uint8]:
    """Rows of an image array as pixels: the newest frame where several are stacked.

    Args:
        spec: of the array; an image.
        rows: `[N, *spec.shape]`.
        step: every how manyth pixel is taken.
        white: byte that is shown as white, see `white_of`.

    Returns:
        `[N, H, W]`, or `[N, H, W, 3]` where there are colours.
    """
    layout = layout_of(spec)
    assert layout is not None, "only images become pixels"
    frames = _arranged(rows, layout, step)
    count = frames.shape[-1]
    if spec.kind == "binary" and count > 1:
        colours = _PALETTE[np.arange(count) % len(_PALETTE)]
        painted: NDArray[np.uint8] = ((frames != 0)[..., None] * colours).max(-2)
        return painted
    newest = slice(count - 3 if count % 3 == 0 else count - 1, count)
    pixels = frames[..., newest]
    if (spec.dtype, spec.low, spec.high) != ("uint8", (0.0,), (255.0,)):
        low, high = (_arranged(bound[None], layout, step)[..., newest] for bound in (spec.lower, spec.upper))
        pixels = _scaled(pixels, low, high)
    elif white != 255:
        pixels = _scaled(pixels, np.zeros(1), np.full(1, max(1, white)))
    return np.ascontiguousarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])


def _arranged(rows: NDArray[Any], layout: ImageLayout, step: int) -> NDArray[Any]:
    """`[N, *shape]` to `[N, H, W, channels]`, oldest frame first."""
    height, width = (place + 1 for place in layout.places)
    moved = np.moveaxis(rows, (height, width), (1, 2))[:, ::step, ::step]
    return moved.reshape(*moved.shape[:3], math.prod(moved.shape[3:]))


def _scaled(values: NDArray[Any], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.uint8]:
    """From their bounds to 0 .. 255; what is no number is black."""
    span = np.where(high > low, high - low, 1.0)
    with np.errstate(invalid="ignore", over="ignore"):
        shares = np.nan_to_num((values.astype(np.float32) - low) / span, nan=0.0)
    scaled: NDArray[np.uint8] = (shares.clip(0, 1) * 255).astype(np.uint8)
    return scaled


@dataclass(frozen=True, slots=True)
class Atlas:
    """The arrangement of tiles in one picture, row by row.

    Attributes:
        columns: tiles in a row; 0 where there are none.
        width, height: pixels of a tile.
        step: every how manyth pixel of the image is in it.
    """

    columns: int
    width: int
    height: int
    step: int


def plan_atlas(spec: ArraySpec, num_tiles: int) -> Atlas:
    """The arrangement of so many tiles, about as wide as high."""
    layout = layout_of(spec)
    assert layout is not None, "only images have an atlas"
    height, width = layout.sides
    step = max(1, math.ceil(math.sqrt(num_tiles * height * width / _MAX_PIXELS)))
    height, width = -(-height // step), -(-width // step)
    columns = min(num_tiles, math.ceil(math.sqrt(num_tiles * height / width)))
    return Atlas(columns, width, height, step)


def compose(tiles: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Tiles `[N, H, W]` or `[N, H, W, 3]` in one picture; what is left of the last row is black.

    Without tiles the picture is one black pixel: a PNG has at least that.
    """
    count, height, width = tiles.shape[:3]
    colours = tiles.shape[3:]
    if not count:
        return np.zeros((1, 1, *colours), np.uint8)
    num_rows = -(-count // columns)
    if num_rows * columns > count:
        padding = np.zeros((num_rows * columns - count, height, width, *colours), np.uint8)
        tiles = np.concatenate([tiles, padding])
    grid = tiles.reshape(num_rows, columns, height, width, *colours).swapaxes(1, 2)
    return grid.reshape(num_rows * height, columns * width, *colours)
