"""Images shrunk and turned to grey before they travel: means of areas, as exact as the dtype allows.

A pixel of the result is the mean of what it covers, where a pixel that is covered in part counts by that part. OpenCV
does it where it is installed, matrices elsewhere; results of integers differ by 1 at most.
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
from seedbed.common.image_layout import ImageLayout, image_layout
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.env_client.environments.interface import Row

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

_OPENCV_CHANNELS = 4  # most that it takes


def with_medians(spec: EnvironmentSpec, row: Row) -> EnvironmentSpec:
    """The spec, with the median of each image that a row shows."""
    looked_at = [
        array if image_layout(array) is None else replace(array, median=_median(pixels))
        for array, pixels in zip(spec.observations, row, strict=True)
    ]
    return replace(spec, observations=tuple(looked_at))


def _median(pixels: NDArray[Any]) -> float:
    """One of the pixels' own values: a byte's is exact in every precision."""
    return float(np.quantile(pixels, 0.5, method="lower"))


Shrink = Callable[[NDArray[Any], NDArray[Any]], None]
"""(image as it is shown, where to write the smaller one)."""


def shrinking(
    spec: ArraySpec, layout: ImageLayout, size: tuple[int, int] | None, grey: bool
) -> tuple[ArraySpec, Shrink]:
    """What an image becomes, and what makes it.

    Args:
        spec, layout: of the image.
        size: height and width; None: as they are.
        grey: turn three colours to grey, without a dimension for them; grey images stay as they are.

    Raises:
        SpecError: the image is smaller already, or its colours are not three.
    """
    old, new = layout.sides, size or layout.sides
    if any(after > before for after, before in zip(new, old, strict=True)):
        wanted = f"{new[0]}x{new[1]}"
        raise SpecError(f"--image-size {wanted}: expected at most the size of the image, got {spec.name!r}: {spec}")
    turns_grey = grey and layout.colours != 1
    if turns_grey and layout.colours != 3:
        raise SpecError(f"--grey: expected an image of three colours, got {spec.name!r}: {spec}")
    frames = layout.channels // layout.colours
    others = [place for place in range(len(spec.shape)) if place not in layout.places]
    forth = (*layout.places, *others)  # sides first
    back = np.argsort(forth)
    resize = _resizer(old, new, layout.channels)

    def shrink(image: NDArray[Any], target: NDArray[Any]) -> None:
        small = resize(image.transpose(forth).reshape(*old, layout.channels))
        if turns_grey:
            result = small.reshape(*new, frames, 3) @ _GREY
            result = np.moveaxis(result, -1, 0)  # a stack of grey frames comes first, as a stack of colour frames does
        else:
            result = small.reshape(*new, *(spec.shape[place] for place in others)).transpose(back)
        if target.dtype.kind != "f" and result.dtype.kind == "f":
            result = np.rint(result)
        np.copyto(target, result.reshape(target.shape), casting="unsafe")

    if turns_grey:
        shape = (*((frames,) if frames > 1 else ()), *new)
    else:
        sides = dict(zip(layout.places, new, strict=True))
        shape = tuple(sides.get(place, length) for place, length in enumerate(spec.shape))
    return replace(spec, shape=shape, low=(min(spec.low),), high=(max(spec.high),)), shrink


def _resizer(old: tuple[int, int], new: tuple[int, int], channels: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What shrinks `[H, W, C]`; whole numbers come back as floats that are not rounded yet, or rounded by OpenCV."""
    if old == new:
        return lambda image: image
    cv2 = _opencv()
    if cv2 is not None and channels <= _OPENCV_CHANNELS:

        def resize(image: NDArray[Any]) -> NDArray[Any]:
            known = image if image.dtype in (np.uint8, np.float32) else image.astype(np.float32)
            small = cv2.resize(np.ascontiguousarray(known), new[::-1], interpolation=cv2.INTER_AREA)
            return np.asarray(small).reshape(*new, channels)

        return resize
    rows, columns = area_weights(old[0], new[0]), area_weights(old[1], new[1])

    def multiply(image: NDArray[Any]) -> NDArray[Any]:
        flat = image.astype(np.float32).reshape(old[0], -1)
        return columns @ (rows @ flat).reshape(new[0], old[1], channels)

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
