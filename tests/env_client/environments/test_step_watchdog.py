"""The watchdog: what counts as hanging. That it ends a process is tested in tests/system/test_environment_faults.py."""

from __future__ import annotations

import pytest

from seedbed.env_client.environments.step_watchdog import Watchdog


class Scene:
    """A watchdog that looks every 2 s and says so when it gives up."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.dog = Watchdog(2.0, self.said.append)
        self._seen: tuple[int, float] = (0, 0.0)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self._seen = self.dog.look(*self._seen)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_call_that_takes_too_long(scene: Scene) -> None:
    scene.dog.watch("environment 3: a step", 10.0)
    scene.look(6)  # the first look only sees that it began
    assert scene.said == []
    scene.look()
    assert scene.said == ["environment 3: a step took more than 10 s"]


def test_calls_one_after_the_other(scene: Scene) -> None:
    for _ in range(100):
        scene.dog.watch("a step", 3.0)
        scene.look()
        scene.look()
    assert scene.said == []


def test_rest_may_take_any_time(scene: Scene) -> None:
    scene.dog.watch("a step", 3.0)
    scene.look(2)
    scene.dog.rest()
    scene.look(100)
    scene.dog.watch("a step", 3.0)
    scene.look(2)
    assert scene.said == []


def test_each_call_has_its_own_limit(scene: Scene) -> None:
    scene.dog.watch("a reset", 100.0)
    scene.look(40)
    scene.dog.watch("a step", 3.0)
    scene.look(3)
    assert scene.said == ["a step took more than 3 s"]
