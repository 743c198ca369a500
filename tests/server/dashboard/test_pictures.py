"""Pictures of observations: what an independent reader of PNG sees is what the environments show."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seedbed.common.specs import ArraySpec
from seedbed.server.dashboard.bars import Bars
from seedbed.server.dashboard.pictures import compose, part_kind, plan_atlas, to_pixels, white_of
from seedbed.server.dashboard.png import encode_png


def read_png(png: bytes) -> NDArray[np.uint8]:
    """`[height, width]` or `[height, width, 3]`, read by matplotlib."""
    from matplotlib.image import imread

    pixels: NDArray[np.uint8] = (imread(io.BytesIO(png), "png") * 255).round().astype(np.uint8)
    return pixels


def image(*shape: int, dtype: str = "uint8", low: float = 0, high: float = 255, kind: Any = "box") -> ArraySpec:
    return ArraySpec(name="observation", dtype=dtype, shape=shape, low=(low,), high=(high,), kind=kind)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1), (1, 300, 3)])
def test_a_picture_is_read_back_as_it_was(shape: tuple[int, ...]) -> None:
    pixels = noise(*shape)
    assert (read_png(encode_png(pixels)) == pixels).all()


@pytest.mark.parametrize("count", [0, 1, 7, 64, 300])
@pytest.mark.parametrize("shape", [(84, 84, 1), (20, 40, 3)])
def test_each_tile_lies_where_the_plan_says(count: int, shape: tuple[int, ...]) -> None:
    spec, frames = image(*shape), noise(count, *shape)
    atlas = plan_atlas(spec, count)
    picture = read_png(encode_png(compose(to_pixels(spec, frames, atlas.step), atlas.columns)))
    assert picture.shape[0] * picture.shape[1] < 1.3 * (1 << 20)
    for number in range(count):
        row, column = divmod(number, atlas.columns)
        tile = picture[row * atlas.height :, column * atlas.width :][: atlas.height, : atlas.width]
        expected = frames[number, :: atlas.step, :: atlas.step]
        assert (tile.reshape(expected.shape) == expected).all()


def test_atlas_of_64_squares_is_a_square() -> None:
    assert plan_atlas(image(84, 84, 1), 64).columns == 8


def test_no_tile_is_thinned_out_without_need() -> None:
    assert plan_atlas(image(210, 160, 3), 1).step == 1
    assert plan_atlas(image(84, 84, 1), 148).step == 1
    assert plan_atlas(image(84, 84, 1), 149).step == 2


FRAME = noise(2, 16, 16)
FRAMES = [FRAME // 2, FRAME // 3, FRAME // 4, FRAME]
COLOURS = noise(2, 16, 20, 3)

SHOWN: dict[str, tuple[ArraySpec, NDArray[Any], NDArray[Any]]] = {
    "a plane": (image(16, 16), FRAME, FRAME),
    "one channel": (image(16, 16, 1), FRAME[..., None], FRAME),
    "one channel first": (image(1, 16, 16), FRAME[:, None], FRAME),
    "colours": (image(16, 20, 3), COLOURS, COLOURS),
    "colours first": (image(3, 16, 20), np.moveaxis(COLOURS, 3, 1), COLOURS),
    "four grey frames, the newest last": (
        image(16, 16, 4),
        np.stack([FRAME // 2, FRAME // 3, FRAME // 4, FRAME], 3),
        FRAME,
    ),
    "four grey frames first": (image(4, 16, 16), np.stack([FRAME // 2, FRAME // 3, FRAME // 4, FRAME], 1), FRAME),
    "stacked colours": (image(2, 16, 20, 3), np.stack([COLOURS // 2, COLOURS], 1), COLOURS),
    "floats between their bounds": (
        image(16, 16, dtype="float32", low=-1, high=1),
        (FRAME / 127.5 - 1).astype(np.float32),
        FRAME,
    ),
    "integers between their bounds": (
        image(16, 16, dtype="int32", low=100, high=355),
        FRAME.astype(np.int32) + 100,
        FRAME,
    ),
    "bytes that are 0 or 1": (image(16, 16, high=1), FRAME % 2, FRAME % 2 * 255),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown(name: str) -> None:
    spec, rows, expected = SHOWN[name]
    assert part_kind(spec) == "image"
    assert np.abs(to_pixels(spec, rows).astype(int) - expected).max() <= 1


def test_numbers_that_are_none_are_black() -> None:
    spec = image(16, 16, dtype="float32", low=0, high=1)
    rows = np.ones((1, 16, 16), np.float32)
    rows[0, 0, :3] = np.nan, np.inf, -np.inf
    assert to_pixels(spec, rows)[0, 0, :4].tolist() == [0, 255, 0, 255]


def test_channels_of_bits_have_colours_of_their_own() -> None:
    spec = image(10, 10, 4, high=1, kind="binary")
    rows = np.zeros((1, 10, 10, 4), np.uint8)
    for channel in range(4):
        rows[0, channel, 0, channel] = 1
    pixels = to_pixels(spec, rows)
    assert pixels.shape == (1, 10, 10, 3)
    assert len({tuple(pixels[0, channel, 0]) for channel in range(5)}) == 5


def test_a_small_image_of_kinds_of_things_is_not_black() -> None:
    spec = image(7, 7, 3)
    rows = np.random.default_rng(0).integers(0, 11, (4, 7, 7, 3), dtype=np.uint8)
    white = white_of(spec, rows, 0)
    assert white == 10
    assert to_pixels(spec, rows, white=white).max() == 255
    assert white_of(spec, rows // 2, white) == 10  # it does not flicker
    assert white_of(spec, rows + 200, white) == 255  # shades after all


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (ArraySpec(name="x", dtype="float32", shape=(64,)), "vector"),
        (ArraySpec(name="x", dtype="float32", shape=(65,)), "summary"),
        (ArraySpec(name="x", dtype="float32", shape=(84, 84, 3)), "summary"),  # unbounded
        (ArraySpec(name="x", dtype="int64", low=(0,), high=(4,), kind="discrete"), "vector"),
        (image(84, 84, 1), "image"),
    ],
)
def test_kinds(spec: ArraySpec, kind: str) -> None:
    assert part_kind(spec) == kind


def test_bars_are_drawn_between_bounds_and_where_there_are_none_between_what_was_seen() -> None:
    bars = Bars(ArraySpec(name="x", dtype="float32", shape=(2,), low=(-1, -np.inf), high=(1, np.inf)))
    assert bars.show(np.array([[0.5, 3.0], [0.25, np.nan]], np.float32))[0] == [0.5, 3.0]
    bars.show(np.array([[0.5, -4.0]], np.float32))
    assert bars.bounds == ([-1.0, -4.0], [1.0, 3.0])


def test_many_numbers_are_summarised() -> None:
    bars = Bars(ArraySpec(name="x", dtype="float32", shape=(100,)))
    assert bars.show(np.arange(100, dtype=np.float32)[None]) == [[0.0, 49.5, 99.0]]
    assert bars.bounds == ([0.0], [99.0])
