"""Images made smaller and grey, against a slow oracle, and episodes that are cut."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from seedbed.common.environment_name import EnvironmentName
from seedbed.common.errors import SpecError
from seedbed.common.image_layout import cost_remark, image_layout
from seedbed.common.plugins import Trust
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.common.timestep import StepType
from seedbed.env_client.environments import images
from seedbed.env_client.environments.adapted import Adapted
from seedbed.env_client.environments.building import Care, describe, make_environments
from seedbed.env_client.environments.images import area_weights, shrinking
from seedbed.env_client.environments.interface import Row, Status

MODULE = "tests.env_client.environments.odd_environments"
CARE = Care(trust=Trust(allow_import=True))


def slow_mean(plane: Any, height: int, width: int) -> Any:
    """Means of areas as they are defined: pixel by pixel, in exact fractions of what is covered."""
    result = np.zeros((height, width))
    scale = plane.shape[0] / height, plane.shape[1] / width
    for row in range(height):
        for column in range(width):
            top, left = row * scale[0], column * scale[1]
            total = 0.0
            for y in range(int(top), min(math.ceil(top + scale[0]), plane.shape[0])):
                for x in range(int(left), min(math.ceil(left + scale[1]), plane.shape[1])):
                    covered_y = min(top + scale[0], y + 1) - max(top, y)
                    covered_x = min(left + scale[1], x + 1) - max(left, x)
                    total += float(plane[y, x]) * covered_y * covered_x
            result[row, column] = total / (scale[0] * scale[1])
    return result


SHAPES = {
    "grey": (31, 47),
    "colours": (31, 47, 3),
    "colours first": (3, 31, 47),
    "frames last": (31, 47, 12),
    "colour frames": (2, 31, 47, 3),
}


def planes(image: Any, layout: str) -> Any:
    """`[C, H, W]`, of every layout above."""
    match layout:
        case "grey":
            return image[None]
        case "colours first":
            return image
        case "colour frames":
            return np.moveaxis(image, 3, 1).reshape(-1, *image.shape[1:3])
        case _:
            return np.moveaxis(image, 2, 0)


@pytest.mark.parametrize("opencv", [True, False], ids=["opencv", "numpy"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int32"])
@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("size", [(9, 12), (31, 8), (16, 47), (10, 10)])
def test_pixels_are_the_means_of_what_they_cover(
    opencv: bool, dtype: str, layout: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if opencv:
        pytest.importorskip("cv2")
    else:
        monkeypatch.setattr(images, "_opencv", lambda: None)
    shape = SHAPES[layout]
    spec = ArraySpec(name="observation", dtype=dtype, shape=shape, low=(0,), high=(255,))
    found = image_layout(spec)
    assert found is not None
    small, shrink = shrinking(spec, found, size, grey=False)
    image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    target = np.zeros(small.shape, small.numpy_dtype)
    shrink(image, target)
    expected = np.stack([slow_mean(plane, *size) for plane in planes(image, layout)])
    np.testing.assert_allclose(planes(target, layout), expected, atol=0.01 if dtype == "float32" else 1.0)
    assert (small.low, small.high, small.dtype) == ((0,), (255,), dtype)


@pytest.mark.parametrize("layout", ["colours", "colours first", "colour frames"])
@pytest.mark.parametrize("size", [None, (9, 12)])
def test_grey_is_the_eyes_mean_of_three_colours(layout: str, size: tuple[int, int] | None) -> None:
    shape = SHAPES[layout]
    spec = ArraySpec(name="observation", dtype="uint8", shape=shape, low=(0,), high=(255,))
    found = image_layout(spec)
    assert found is not None
    small, shrink = shrinking(spec, found, size, grey=True)
    frames = (2,) if layout == "colour frames" else ()
    assert small.shape == (*frames, *(size or (31, 47)))
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    target = np.zeros(small.shape, np.uint8)
    shrink(image, target)
    colours = planes(image, layout).reshape(-1, 3, 31, 47)
    expected = [slow_mean(np.tensordot([0.299, 0.587, 0.114], frame, 1), *(size or (31, 47))) for frame in colours]
    np.testing.assert_allclose(target.reshape(-1, *target.shape[-2:]), expected, atol=1.0)


def test_weights_of_a_pixel_add_up_to_one() -> None:
    for before, after in ((84, 84), (240, 72), (320, 96), (7, 3), (1000, 999)):
        weights = area_weights(before, after)
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(weights.sum(0), after / before, atol=1e-6)


def test_an_image_travels_small_and_grey_and_its_name_says_so() -> None:
    name = f'{MODULE}:Sized{{"height":40,"width":64}}@10x8,grey'
    environments = make_environments(name, "", [0], 0, CARE)
    assert environments.spec == describe(name, "", CARE)
    assert environments.spec.environment == name
    assert environments.spec.observations[0].shape == (10, 8)
    shown = environments.reset().observations[0][0]
    np.testing.assert_array_equal(shown[:, 0], 32, "an eighth of its columns is white")  # 255 / 8
    np.testing.assert_array_equal(shown[:, 1:], 0)
    np.testing.assert_array_equal(environments.step((np.zeros(1, np.int64),)).observations[0][0], shown)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Sound@10x10", "expected an image for --image-size and --grey, got 'observation' float32"),
        (
            "Sized@10x10",
            r"--image-size 10x10: expected at most the size of the image, got 'observation': uint8\[9, 16, 3\]",
        ),
        ('Sized{"colours":4}@grey', "--grey: expected an image of three colours"),
    ],
)
def test_what_cannot_be_made_smaller_is_refused(name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        describe(f"{MODULE}:{name}", "", CARE)


def test_episodes_are_cut_as_truncations() -> None:
    environments = make_environments(f"{MODULE}:Never@3steps", "", [0], 0, CARE)
    environments.reset()
    seen = []
    for _ in range(8):
        rows = environments.step((np.zeros(1, np.int64),))
        seen.append((int(rows.step_type[0]), [end.steps for end in rows.episode_ends]))
        assert rows.discount[0] == 1
    first, mid, last = StepType.FIRST, StepType.MID, StepType.LAST
    assert seen == [(mid, []), (mid, []), (last, [3]), (first, []), (mid, []), (mid, []), (last, [3]), (first, [])]


class Lives:
    """Loses a life in every second step."""

    spec = EnvironmentSpec(
        environment="Lives",
        observations=(ArraySpec(name="observation", dtype="float32"),),
        actions=(discrete("action", 2),),
    )
    frames = 0

    def __init__(self) -> None:
        self.steps = 0

    def reset(self, observation: Row) -> None:
        """Nothing to do."""

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        self.steps += 1
        return 0.0, Status.LIFE_LOST if self.steps % 2 == 0 else Status.RUNNING

    def close(self) -> None:
        """Nothing to do."""


def test_steps_are_counted_over_all_lives_and_a_lost_one_is_not_hidden() -> None:
    environment = Adapted(Lives(), EnvironmentName(id="Lives", max_steps=4))
    row, seen = (np.zeros(()),), []
    for _ in range(2):
        environment.reset(row)
        seen += [environment.step(row, row)[1].name for _ in range(2)]
    environment.reset(row)
    seen.append(environment.step(row, row)[1].name)
    environment.reset(row)
    seen.append(environment.step(row, row)[1].name)
    assert seen == ["RUNNING", "LIFE_LOST", "RUNNING", "LIFE_LOST", "TRUNCATED", "LIFE_LOST"]


def test_large_images_are_remarked_upon() -> None:
    def spec(*shape: int) -> EnvironmentSpec:
        return EnvironmentSpec(
            environment="x",
            observations=(ArraySpec(name="observation", dtype="uint8", shape=shape),),
            actions=(discrete("action", 2),),
        )

    remark = cost_remark(spec(240, 320, 3))
    assert remark is not None
    assert "230,400 bytes a step" in remark
    assert "--image-size 84x112 and --grey" in remark
    assert cost_remark(spec(128, 128)) is None
    assert "--grey" not in str(cost_remark(spec(4, 129, 129)))
    assert (
        cost_remark(
            spec(
                3000,
            )
        )
        is None
    )
