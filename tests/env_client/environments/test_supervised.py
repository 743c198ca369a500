"""Environments that break: their episode is cut and another one takes their place, until it is too much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import BrokenError, SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import StepType, Timesteps
from seedbed.env_client.environments import supervised
from seedbed.env_client.environments.interface import Row, Status
from seedbed.env_client.environments.rows import Environments
from seedbed.env_client.environments.supervised import MAX_REBUILDS, WINDOW_S, Supervised

FIRST, MID, LAST = StepType.FIRST, StepType.MID, StepType.LAST
GO = Status.RUNNING, 1.0


class Fragile:
    """Each step pays what `deed(number of the step)` returns; shows (which building, step) as it starts and after."""

    spec = EnvironmentSpec(
        environment="fragile",
        observations=(ArraySpec(name="place", dtype="float32", shape=(2,)), ArraySpec(name="x", dtype="int64")),
        actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(9,), kind="discrete"),),
    )

    def __init__(self, number: int, deed: Callable[[int], tuple[Status, float]], resets: Any) -> None:
        self.number, self.deed, self.resets = number, deed, resets
        self.frames = 0
        self.closed = False

    def reset(self, observation: Row) -> None:
        self.frames = 0
        self._show(observation)
        if self.resets:
            raise self.resets.pop()

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        assert not self.closed
        self.frames += 1
        self._show(observation)  # what is written before a fault must not be sent
        status, reward = self.deed(self.frames)
        if reward == 1e9:
            observation[0][...] = np.nan
        return reward, status

    def close(self) -> None:
        self.closed = True
        raise OSError("closing is broken too")

    def _show(self, observation: Row) -> None:
        observation[0][...] = (self.number, self.frames)
        observation[1][...] = self.frames


class Scene:
    """Row 0 is fragile, row 1 is well."""

    def __init__(self, *deeds: Callable[[int], tuple[Status, float]], resets: Any = ()) -> None:
        self.built: list[Fragile] = []
        self.now_s = 0.0
        self.deeds = deeds
        self.resets = list(resets)
        seats = [
            Supervised(7, self._build, clock=lambda: self.now_s),
            Supervised(8, lambda _: Fragile(0, lambda _: GO, [])),
        ]
        self.environments = Environments(seats)

    def _build(self, rebuilt: int) -> Fragile:
        assert rebuilt == len(self.built)
        self.built.append(Fragile(rebuilt, self.deeds[min(rebuilt, len(self.deeds) - 1)], self.resets))
        return self.built[-1]

    def step(self) -> Timesteps:
        return self.environments.step((np.zeros(2, np.int64),))


def bad(error: BaseException, at: int = 3) -> Callable[[int], tuple[Status, float]]:
    """Raises in its third step."""

    def deed(step: int) -> tuple[Status, float]:
        if step == at:
            raise error
        return GO

    return deed


def well(_: int) -> tuple[Status, float]:
    return GO


def rewarding(reward: Any, status: Status = Status.RUNNING) -> Callable[[int], tuple[Status, float]]:
    """In its third step, with that status."""
    return lambda step: (status, reward) if step == 3 else GO


FAULTS = {
    "raises": bad(RuntimeError("broken")),
    "quits": bad(SystemExit(0)),
    "raises nothing in particular": bad(KeyError(1)),
    "reward is NaN": rewarding(float("nan")),
    "reward is infinite": rewarding(float("-inf")),
    "reward is beyond float32": rewarding(1e39),
    "return is out of bounds": rewarding(1e16),
    "reward is no number": rewarding(None),
    "observation is NaN": rewarding(1e9),
    "observation is NaN at the end": rewarding(1e9, Status.TERMINATED),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_episode_is_cut_on_its_last_observation_and_siblings_go_on(fault: str) -> None:
    scene = Scene(FAULTS[fault], well)
    scene.environments.reset()
    scene.step()
    scene.step()
    rows = scene.step()
    assert rows.step_type.tolist() == [LAST, MID]
    assert rows.reward.tolist() == [0, 1]
    assert rows.discount.tolist() == [1, 1], "truncated, not terminated"
    assert rows.observations[0].tolist() == [[0, 2], [0, 3]], "what was seen last"
    assert rows.observations[1].tolist() == [2, 3]
    assert rows.episode_ends == (), "its return would be a score"
    assert scene.built[0].closed
    rows = scene.step()
    assert rows.step_type.tolist() == [FIRST, MID]
    assert rows.reward.tolist() == [0, 1]
    assert rows.observations[0].tolist() == [[1, 0], [0, 4]]


def test_the_next_episode_counts_from_the_start() -> None:
    scene = Scene(FAULTS["raises"], lambda step: (Status.TERMINATED if step == 2 else Status.RUNNING, 1.0))
    scene.environments.reset()
    for _ in range(6):
        rows = scene.step()
    assert [(end.row, end.episode_return, end.steps) for end in rows.episode_ends] == [(0, 2.0, 2)]


def test_one_that_breaks_after_a_lost_life_begins_a_real_episode() -> None:
    lost = rewarding(1.0, Status.LIFE_LOST)
    scene = Scene(lost, lambda step: (Status.TERMINATED if step == 2 else Status.RUNNING, 1.0))
    scene.environments.reset()
    for _ in range(3):
        rows = scene.step()
    assert rows.step_type.tolist() == [LAST, MID]
    scene.resets.append(RuntimeError("in the next life"))
    for _ in range(3):
        rows = scene.step()
    assert rows.step_type.tolist() == [LAST, MID]
    assert [(end.episode_return, end.steps) for end in rows.episode_ends] == [(2.0, 2)]


def test_one_that_breaks_in_its_reset_is_replaced_at_once() -> None:
    scene = Scene(well, resets=[RuntimeError("1"), ValueError("2")])
    rows = scene.environments.reset()
    assert rows.step_type.tolist() == [FIRST, FIRST]
    assert rows.observations[0].tolist() == [[2, 0], [0, 0]]
    assert [environment.closed for environment in scene.built] == [True, True, False]


def test_a_first_observation_that_is_not_finite_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(well)
    monkeypatch.setattr(scene.built[0], "number", np.inf)
    assert scene.environments.reset().observations[0].tolist() == [[1, 0], [0, 0]]


def test_too_many_faults_within_ten_minutes_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "_told", set())
    scene = Scene(bad(RuntimeError("broken"), at=1))
    scene.environments.reset()
    for number in range(MAX_REBUILDS):
        scene.now_s = 10.0 * number
        assert scene.step().step_type[0] == LAST
        assert scene.step().step_type[0] == FIRST
    with pytest.raises(BrokenError, match=r"environment 7 broke 4 times within 10 minutes.*RuntimeError\('broken'\)"):
        scene.step()
    assert BrokenError.exit_code == 75
    assert caplog.text.count("Traceback") == 1, "the same fault in the same place"


def test_faults_long_ago_are_forgotten() -> None:
    scene = Scene(bad(RuntimeError("broken"), at=1))
    scene.environments.reset()
    for number in range(20):
        scene.now_s = (WINDOW_S / MAX_REBUILDS + 1) * number
        scene.step()
        scene.step()
    assert len(scene.built) == 21


@pytest.mark.parametrize("error", [SpecError("told"), KeyboardInterrupt()])
def test_what_is_no_fault_passes(error: BaseException) -> None:
    scene = Scene(bad(error, at=1))
    scene.environments.reset()
    with pytest.raises(type(error)):
        scene.step()
    assert len(scene.built) == 1


def test_closing_a_broken_one_twice_is_no_error() -> None:
    scene = Scene(bad(RuntimeError("broken"), at=1))
    scene.environments.reset()
    scene.step()
    scene.environments.close()
    assert len(scene.built) == 1
