"""Images shrunk and turned to grey before they travel: means of areas, as exact as the dtype allows.

A pixel of the result is the mean of what it covers, where a pixel that is covered in part counts by that part. OpenCV
does it where it is installed, matrices elsewhere; results of uint8 differ by 1 at most.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec

LARGE_SIDE = 128
"""Pixels: a larger image costs so much on the way that its user should know."""

_LEAST_SIDE = 8
_LEAST_FLAT_SIDE = 16  # of an array without colours: smaller ones are tables of numbers
_COLOURS = (1, 3, 4)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

Shrink = Callable[[NDArray[Any], NDArray[Any]], None]
"""(image as it is shown, where to write the smaller one)."""


def colour_axis(spec: ArraySpec) -> int | None:
    """Which axis of an image holds its colours or frames: -1 or 0; None where it has none.

    Raises:
        ValueError: the array is no image.
    """
    if spec.kind != "box" or spec.role != "value" or spec.dtype not in ("uint8", "float32"):
        raise ValueError("no image")
    axis: int | None = None
    if len(spec.shape) == 3:
        first, last = spec.shape[0], spec.shape[2]
        axis = -1 if last in _COLOURS or (first not in _COLOURS and last <= first) else 0
    elif len(spec.shape) != 2:
        raise ValueError("no image")
    if min(_sides(spec.shape, axis)) < (_LEAST_FLAT_SIDE if axis is None else _LEAST_SIDE):
        raise ValueError("no image")
    return axis


def is_image(spec: ArraySpec) -> bool:
    """Whether an array looks like an image: two sides, and perhaps colours first or last."""
    try:
        colour_axis(spec)
    except ValueError:
        return False
    return True


def cost_remark(spec: EnvironmentSpec) -> str | None:
    """What a large image costs and how it becomes smaller; None where all are small."""
    for array in spec.observations:
        if is_image(array) and max(sides := _sides(array.shape, colour_axis(array))) > LARGE_SIDE:
            share = min(1.0, 84 / min(sides))
            height, width = (max(1, round(side * share)) for side in sides)
            smaller = f"--image-size {height}x{width}"
            grey = " and --grey" if 3 in array.shape[:1] + array.shape[-1:] else ""
            return (
                f"{array.name!r} is {array}: {array.row_bytes:,} bytes a step and environment travel to the server; "
                f"{smaller}{grey} would shrink it before it travels"
            )
    return None


def shrinking(spec: ArraySpec, size: tuple[int, int] | None, grey: bool) -> tuple[ArraySpec, Shrink]:
    """What an image becomes, and what makes it.

    Args:
        spec: of an image.
        size: height and width; None: as they are.
        grey: turn three colours to grey, without an axis for it; grey images stay as they are.

    Raises:
        SpecError: the image is smaller already, or its colours are not three.
    """
    axis = colour_axis(spec)
    old = _sides(spec.shape, axis)
    new = size or old
    if any(after > before for after, before in zip(new, old, strict=True)):
        raise SpecError(
            f"--image-size {new[0]}x{new[1]}: expected at most the image's own size, got {spec.name!r}: {spec}"
        )
    colours = 1 if axis is None else spec.shape[axis]
    turns_grey = grey and axis is not None and colours != 1
    if turns_grey and colours != 3:
        raise SpecError(f"--grey: expected an image of three colours, got {spec.name!r}: {spec}")
    whole = new if turns_grey or axis is None else ((colours, *new) if axis == 0 else (*new, colours))
    low, high = (min(spec.low),), (max(spec.high),)
    resize = _resizer(old, new)

    def shrink(image: NDArray[Any], target: NDArray[Any]) -> None:
        planes = image[..., None] if axis is None else np.moveaxis(image, axis, -1)
        small = resize(planes)
        result = small @ _GREY if turns_grey else small
        if target.dtype.kind != "f" and result.dtype.kind == "f":
            result = np.rint(result)
        if axis == 0 and not turns_grey:
            result = np.moveaxis(result, -1, 0)
        np.copyto(target, result.reshape(target.shape), casting="unsafe")

    return replace(spec, shape=whole, low=low, high=high), shrink


def _sides(shape: tuple[int, ...], axis: int | None) -> tuple[int, int]:
    if axis is None:
        return shape[0], shape[1]
    return (shape[1], shape[2]) if axis == 0 else (shape[0], shape[1])


def _resizer(old: tuple[int, int], new: tuple[int, int]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What shrinks `[H, W, C]`; whole numbers come back as floats that are not rounded yet, or rounded by OpenCV."""
    if old == new:
        return lambda image: image
    cv2 = _opencv()
    if cv2 is not None:

        def resize(image: NDArray[Any]) -> NDArray[Any]:
            small: NDArray[Any] = cv2.resize(np.ascontiguousarray(image), new[::-1], interpolation=cv2.INTER_AREA)
            return small.reshape(*new, image.shape[-1])

        return resize
    rows, columns = area_weights(old[0], new[0]), area_weights(old[1], new[1])

    def multiply(image: NDArray[Any]) -> NDArray[Any]:
        colours = image.shape[-1]
        flat = image.astype(np.float32).reshape(old[0], -1)
        return columns @ (rows @ flat).reshape(new[0], old[1], colours)

    return multiply


@functools.cache
def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)  # the client is one thread; a pool would only add switches between threads
    return cv2


def area_weights(before: int, after: int) -> NDArray[np.float32]:
    """How much each old pixel counts in each new one: `[after, before]`, rows add up to 1."""
    scale = before / after
    weights = np.zeros((after, before))
    for row in range(after):
        start, end = row * scale, (row + 1) * scale
        for column in range(math.floor(start), min(math.ceil(end), before)):
            weights[row, column] = (min(end, column + 1) - max(start, column)) / scale
    return weights.astype(np.float32)
