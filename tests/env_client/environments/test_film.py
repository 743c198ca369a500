"""Videos of whatever environments show: each is read back, and nothing odd about a picture ends a client."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.env_client.environments.building import Care, make_environments
from seedbed.env_client.environments.film import Film, as_picture, bars, fitted
from seedbed.env_client.environments.filmed import Filmed
from seedbed.env_client.environments.interface import Asides, Row, Status
from seedbed.env_client.environments.registry import builder

av = pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")


def pictures_in(file: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(file)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("ending", ["mp4", "gif"])
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 5, 3), (7, 301, 1), (211, 161, 3), (3, 40, 30), (4, 84, 84), (2, 9, 9, 3)]
)
def test_pictures_of_any_size_are_read_back(tmp_path: Path, ending: str, shape: tuple[int, ...]) -> None:
    file = tmp_path / f"film.{ending}"
    film = Film(file, 12.5)
    for level in (0, 128, 255):
        film.add(np.full(shape, level, np.uint8))
    assert not file.exists(), "no half of a video"
    film.close()
    found = pictures_in(file)
    assert len(found) == 3
    assert len({picture.shape for picture in found}) == 1
    assert all(side % 2 == 0 for side in found[0].shape[:2])
    # An array of two channels has no blue.
    assert [round(float(picture[..., 0].mean()) / 255, 1) for picture in found] == [0.0, 0.5, 1.0]
    assert os.listdir(tmp_path) == [file.name]


def test_colours_and_places_survive(tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32, :, 0], picture[32:, :, 2] = 250, 240
    for ending in ("mp4", "gif"):
        film = Film(tmp_path / f"film.{ending}", 10)
        film.add(picture)
        film.hold(0.5)
        film.close()
        found = pictures_in(tmp_path / f"film.{ending}")
        assert len(found) == 6
        upper, lower = found[-1][20, 128].astype(int), found[-1][236, 128].astype(int)
        assert np.abs(upper - (250, 0, 0)).max() < 12
        assert np.abs(lower - (0, 0, 240)).max() < 12


def test_pictures_that_change_their_size_are_fitted_to_the_first(tmp_path: Path) -> None:
    film = Film(tmp_path / "film.mp4", 10)
    for side in (300, 10, 2001):
        film.add(np.full((side, side + 1, 3), 200, np.uint8))
    film.close()
    assert [picture.shape for picture in pictures_in(tmp_path / "film.mp4")] == [(300, 302, 3)] * 3
    assert fitted(np.zeros((3, 4, 3), np.uint8), (2, 9)).shape == (2, 9, 3)


def test_a_film_without_pictures_leaves_nothing(tmp_path: Path) -> None:
    Film(tmp_path / "film.mp4", 10).close()
    assert os.listdir(tmp_path) == []


def test_a_film_that_cannot_be_ended_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = Film(tmp_path / "film.mp4", 10.0)
    for _ in range(100):  # the file begins when the codec has pictures enough
        film.add(np.zeros((8, 8), np.uint8))

    def full(frame: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(film, "_encode", full)
    with pytest.raises(OSError, match="No space"):
        film.close()
    assert os.listdir(tmp_path) == []


def test_numbers_become_bytes_by_what_they_are() -> None:
    def values(array: Any, bounds: tuple[float, float] | None = None) -> list[int]:
        return [int(value) for value in as_picture(np.asarray(array)[None], bounds)[0, :, 0]]

    assert values([[0.0], [0.5], [1.0]]) == [0, 127, 255]
    assert values([0.0, 0.5, 1.0]) == [0, 127, 255]
    assert values([True, False]) == [255, 0]
    assert values([-1.0, 0.0, 1.0]) == [0, 127, 255]
    assert values([0.0, 100.0, 200.0]) == [0, 100, 200]
    assert values(np.array([0, 5, 10], np.int64)) == [0, 127, 255], "codes of things"
    assert values([np.nan, 0.5, 1.0]) == [0, 127, 255]
    assert values([0.0, 5.0, 20.0], (0, 10)) == [0, 127, 255]
    for shapeless in (np.zeros(5), np.zeros(()), np.zeros((0, 3))):
        with pytest.raises(ValueError, match="expected an image"):
            as_picture(shapeless)


def test_bars_show_each_number_between_its_bounds() -> None:
    picture = bars(np.array([0.0, 5.0, 10.0, np.nan]), np.zeros(4), np.full(4, 10.0))
    heights = [int((picture[:, 2 + 10 * number, 2] == 214).sum()) for number in range(4)]
    assert heights[0] <= 1
    assert heights[1] in (64, 65)
    assert heights[2] == 128
    assert heights[3] <= 1
    assert bars(np.zeros(1000), np.zeros(1000), np.zeros(1000)).shape[1] < 1400


class Scripted:
    """Episodes of three steps. Shows two numbers and its step; renders what it is told."""

    spec = EnvironmentSpec(
        environment="scripted",
        observations=(ArraySpec(name="observation", dtype="float32", shape=(2,)),),
        actions=(discrete("action", 2),),
    )
    fps = 20.0

    def __init__(self, picture: Any = None) -> None:
        self.frames = 0
        self._picture = picture

    def reset(self, observation: Row) -> None:
        self.frames = 0
        observation[0][...] = 0

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        self.frames += 1
        observation[0][...] = self.frames
        return 1.0, Status.TERMINATED if self.frames == 3 else Status.RUNNING

    def picture(self) -> Any:
        return self._picture(self.frames) if callable(self._picture) else self._picture

    def close(self) -> None:
        pass


def play(environment: Filmed, episodes: int) -> None:
    row = (np.zeros(2, np.float32),)
    for _ in range(episodes):
        environment.reset(row)
        while environment.step((np.zeros((), np.int64),), row)[1] is Status.RUNNING:
            pass


def _raising(frame: int) -> Any:
    raise RuntimeError("no display")


def _raising_later(frame: int) -> Any:
    return np.zeros((40, 41, 3), np.uint8) if frame < 2 else _raising(frame)


@pytest.mark.parametrize(
    "picture", [np.zeros((40, 41, 3), np.uint8), None, "text", _raising, _raising_later, np.zeros(3)]
)
def test_so_many_episodes_are_filmed_whatever_is_rendered(tmp_path: Path, picture: Any) -> None:
    file = tmp_path / "film.mp4"
    environment = Filmed(Scripted(picture), Asides(film=str(file), film_episodes=2))
    play(environment, 1)
    assert not file.exists()
    play(environment, 1)
    assert file.exists(), "before anybody hears of the last end"
    play(environment, 3)
    environment.close()
    # A first picture and three steps, and 0.7 s of the last one, at 20 pictures a second.
    assert len(pictures_in(file)) == 2 * (4 + 14)


def test_a_film_that_waits_for_its_end_is_whole_when_the_environment_is_closed(tmp_path: Path) -> None:
    environment = Filmed(Scripted(), Asides(film=str(tmp_path / "film.gif"), film_episodes=99, film_fps=4))
    play(environment, 1)
    environment.close()
    assert len(pictures_in(tmp_path / "film.gif")) == 4 + 3


def test_a_full_disk_costs_the_video_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    environment = Filmed(Scripted(), Asides(film=str(tmp_path / "film.mp4"), film_episodes=1))
    monkeypatch.setattr(Film, "add", full)
    play(environment, 2)
    environment.close()
    assert sum("No space left" in record.getMessage() for record in caplog.records) == 1


def test_only_environment_0_is_filmed(tmp_path: Path) -> None:
    build = builder("seedbed/Catch-v0", "", asides=Asides(film=str(tmp_path / "catch.gif"), render="rgb_array"))
    first, second = build(0, 0), build(1, 0)
    assert isinstance(first, Filmed)
    assert not isinstance(second, Filmed)
    first.close()


def test_an_isolated_environment_is_filmed_in_its_own_process(tmp_path: Path) -> None:
    film = tmp_path / "catch.gif"
    care = Care(isolate=True, asides=Asides(film=str(film), film_episodes=1, render="rgb_array"))
    environments = make_environments("seedbed/Catch-v0", "", [0], 0, care)
    try:
        environments.reset()
        while not environments.step((np.zeros(1, np.int64),)).episode_ends:
            assert not film.exists()
        assert len(pictures_in(film)) == 10 + 7
    finally:
        environments.close()
