"""Numbers out of `info`: which travel, and that nothing in it can end a client."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import UsageError
from seedbed.common.info_numbers import MAX_NUMBERS
from seedbed.common.plugins import Trust
from seedbed.env_client.environments.building import Care, make_environments
from seedbed.env_client.environments.info import info_of_row, info_reader
from seedbed.env_client.environments.interface import Asides
from seedbed.env_client.environments.rows import Environments

gymnasium = pytest.importorskip("gymnasium")

TRUST = Trust(allow_import=True, start_directory=Path(__file__).resolve().parents[3])
INFO: dict[Any, Any] = {
    "is_success": np.bool_(True),
    "laps": 3,
    "fuel": np.float32(0.5),
    "place": np.array([2]),
    "stats": {"kills": 7, "name": "x"},
    "name": "pong",
    "nan": float("nan"),
    "huge": 10**400,
    "path": np.zeros(3),
    "<script>": 1,
    5: 6,
    "none": None,
    "TimeLimit.truncated": True,
}


class Told(gymnasium.Env):  # type: ignore[name-defined]
    """Tells of itself; ends after two steps, terminated and truncated by turns."""

    def __init__(self, info: Any = None) -> None:
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        self.action_space = gymnasium.spaces.Discrete(2)
        self.steps = self.episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps == 2
        self.episodes += over
        ends = (over, False) if self.episodes % 2 else (False, over)
        return np.zeros(2, np.float32), 1.0, *ends, {"step": self.steps, "episode": {"n": self.episodes}}


def play(environments: Environments, steps: int) -> list[tuple[bool, dict[str, float]]]:
    """(truncated, info) of the episodes that end."""
    environments.reset()
    actions = (np.zeros(1, np.int64),)
    ends = [end for _ in range(steps) for end in environments.step(actions).episode_ends]
    return [(end.truncated, dict(end.info)) for end in ends]


def test_every_number_at_the_top_travels() -> None:
    found = info_reader("auto")(INFO)
    assert found == {"is_success": 1.0, "laps": 3.0, "fuel": 0.5, "place": 2.0}
    assert all(type(value) is float for value in found.values())
    assert info_reader("none")(INFO) == {}
    odds: tuple[Any, ...] = (None, [], "info", {})
    for odd in odds:
        assert info_reader("auto")(odd) == info_reader("a")(odd) == {}


def test_names_choose_and_reach_deeper(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert info_reader("laps, stats/kills")(INFO) == {"laps": 3.0, "stats/kills": 7.0}
        assert caplog.records == []
        for _ in range(3):
            assert info_reader("stats/name,missing")(INFO) == {}
    said = [record.getMessage().partition("no number ")[2].partition(";")[0] for record in caplog.records]
    assert sorted(said) == ["'missing'", "'stats/name'"], "each once"


def test_more_numbers_than_travel_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    found = info_reader("auto")({f"n{i}": i for i in range(100)})
    assert list(found) == [f"n{i}" for i in range(MAX_NUMBERS)]
    with pytest.raises(UsageError, match="at most 32"):
        info_reader(",".join(f"n{i}" for i in range(33)))
    with pytest.raises(UsageError, match="'a b'"):
        info_reader("a b")


def test_a_row_of_a_vector_has_its_own() -> None:
    info = {
        "laps": np.array([3, 4]),
        "_laps": np.array([True, True]),
        "won": np.array([1.0, 0.0]),
        "_won": np.array([False, True]),
        "name": "x",
        "all": np.array(7),
    }
    assert info_reader("auto")(info_of_row(info, 0)) == {"laps": 3.0}
    assert info_reader("auto")(info_of_row(info, 1)) == {"laps": 4.0, "won": 0.0}
    assert info_of_row(None, 0) == info_of_row({}, 0) == {}


@pytest.mark.parametrize("isolate", [False, True])
def test_the_end_of_an_episode_says_why_and_what(isolate: bool) -> None:
    care = Care(trust=TRUST, isolate=isolate, asides=Asides(info_keys="step,episode/n"))
    environments = make_environments(f"{__name__}:Told", "", [0], 0, care)
    try:
        ends = play(environments, 9)
    finally:
        environments.close()
    assert ends == [
        (False, {"step": 2.0, "episode/n": 1.0}),
        (True, {"step": 2.0, "episode/n": 2.0}),
        (False, {"step": 2.0, "episode/n": 3.0}),
    ]


def test_an_episode_that_is_cut_short_tells_of_its_last_step() -> None:
    environments = make_environments(f"{__name__}:Told@1steps", "", [0], 0, Care(trust=TRUST))
    assert play(environments, 2) == [(True, {"step": 1.0})]
