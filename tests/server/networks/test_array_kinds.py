"""Kinds of observation arrays: images by their shape, whichever way round, and how many frames of each are seen."""

from __future__ import annotations

import math

import pytest

from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.networks.array_kinds import as_read, computes_in_half, describe, frame_stacks, image_of


def box(*shape: int, dtype: str = "uint8", low: float = 0, high: float = 255) -> ArraySpec:
    return ArraySpec(name="x", dtype=dtype, shape=shape, low=(low,), high=(high,))


@pytest.mark.parametrize(
    ("shape", "height", "width", "channels", "first"),
    [
        ((84, 84), 84, 84, 1, False),
        ((84, 84, 1), 84, 84, 1, False),
        ((1, 84, 84), 84, 84, 1, True),
        ((210, 160, 3), 210, 160, 3, False),
        ((3, 84, 84), 84, 84, 3, True),
        ((4, 84, 84), 84, 84, 4, True),  # Gymnasium's FrameStackObservation
        ((12, 64, 96), 64, 96, 12, True),
        ((4, 84, 84, 3), 84, 84, 12, True),  # the same, of colours
        ((10, 10, 4), 10, 10, 4, False),  # MinAtar
        ((7, 7, 3), 7, 7, 3, False),  # MiniGrid
        ((4, 10, 10), 10, 10, 4, True),
        ((10, 10, 10), 10, 10, 10, False),
        ((8, 8, 20), 8, 8, 20, False),
        ((16, 16), 16, 16, 1, False),
    ],
)
def test_images_are_known_by_their_shape(
    shape: tuple[int, ...], height: int, width: int, channels: int, first: bool
) -> None:
    image = image_of(box(*shape))
    assert image is not None
    assert (image.height, image.width, image.channels, image.channels_first) == (height, width, channels, first)
    read = as_read(box(*shape))
    assert read.shape == (shape if not first else (height, width, channels))


@pytest.mark.parametrize(
    "shape", [(), (84,), (10, 5), (15, 16), (4, 4, 3), (3, 4, 7), (9, 4, 4), (2, 2, 9, 9), (1,) * 5]
)
def test_other_shapes_are_no_images(shape: tuple[int, ...]) -> None:
    assert image_of(box(*shape)) is None
    assert as_read(box(*shape)) == box(*shape)


def test_images_have_finite_bounds_or_are_bytes() -> None:
    assert image_of(box(84, 84, 3, dtype="float32", low=0, high=1)) is not None
    assert image_of(box(84, 84, 3, dtype="float32", low=0, high=math.inf)) is None
    assert image_of(box(84, 84, low=-math.inf, high=math.inf)) is not None
    assert image_of(ArraySpec(name="x", dtype="int64", shape=(8, 8, 3), low=(0,), high=(5,), kind="discrete")) is None
    assert image_of(ArraySpec(name="x", dtype="uint8", shape=(8, 8, 3), low=(0,), high=(1,), kind="binary")) is not None


def test_bounds_are_turned_round_with_the_image() -> None:
    bounds = tuple(float(10 * channel + 1) for channel in range(3) for _ in range(64))
    read = as_read(ArraySpec(name="x", dtype="uint8", shape=(3, 8, 8), low=(0,), high=bounds))
    assert read.upper[2, 5].tolist() == [1, 11, 21]
    moved = as_read(ArraySpec(name="x", dtype="int32", shape=(2,), low=(1, 5), high=(3, 6), kind="discrete"))
    assert (moved.low, moved.high) == ((0.0,), (2.0, 1.0))


def test_frames_of_grey_images_alone_are_stacked() -> None:
    shown = (box(84, 84), box(84, 84, 1), box(1, 84, 84), box(84, 84, 3), box(4, 84, 84), box(3), discrete("d", 5))
    assert frame_stacks(shown, None) == (4, 4, 4, 1, 1, 1, 1)
    assert frame_stacks(shown, 2) == (2,) * 7


def test_half_precision_is_for_pixels() -> None:
    assert computes_in_half(box(84, 84))
    assert computes_in_half(box(3, 84, 84))
    for other in (box(84, 84, dtype="float32"), box(84, 84, dtype="int64"), box(16, 16), box(128), discrete("d", 5)):
        assert not computes_in_half(other)


def test_arrays_in_words() -> None:
    texts = [describe(box(84, 84)), describe(box(3, 240, 320)), describe(box(84, 84, 5)), describe(discrete("d", 16))]
    assert texts == [
        "a grey image of 84 x 84",
        "a colour image of 240 x 320",
        "an image of 84 x 84 with 5 channels",
        "one of 16 values",
    ]
    several = ArraySpec(name="x", dtype="int64", shape=(2,), low=(0,), high=(3, 9), kind="discrete")
    assert describe(several) == "2 times one of 4 to 10 values"
    assert (describe(box(16, 16)), describe(box(7, 7, 3))) == (
        "an image of 16 x 16",
        "an image of 7 x 7 with 3 channels",
    )
    assert (describe(box(dtype="float32")), describe(box(7))) == ("one number", "7 integers")
