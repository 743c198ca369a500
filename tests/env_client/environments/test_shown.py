"""What environments show against what they say: each kind of difference is told once, before anything is learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import BrokenError, SpecError
from seedbed.common.plugins import Trust
from seedbed.common.timestep import StepType
from seedbed.env_client.environments.building import Care, describe, make_environments
from tests.env_client.environments import odd_environments

pytest.importorskip("gymnasium")

MODULE = odd_environments.__name__
CARE = Care(trust=Trust(allow_import=True, start_directory=Path(__file__).parents[3]))

REFUSED = {
    "FloatInUint8": r"first reset shows 'observation': expected uint8\[8, 8\] in \[0, 255\], got float32\[8, 8\]",
    "IntInFloat": r"expected float32\[2\] in \[-1, 1\], got int64\[2\] from 0 to 1",
    "Negative": r"expected uint8\[3\] in \[0, 255\], got int64\[3\] from -1 to 300",
    "Broadcast": r"expected float32\[4\] in \[-1, 1\], got float32\[\]",
    "Row": r"expected float32\[4\] in \[-1, 1\], got float32\[1, 4\]",
    "WrongStep": r"the first step shows 'observation': expected float32\[2\] in \[-1, 1\], got float32\[3\]",
    "OutOfBounds": r"expected float32\[2\] in \[0, 1\], got float32\[2\] from -7 to 7",
    "NotFinite": r"got float32\[2\] from nan to nan, which is not finite",
    "NotInSpace": r"expected discrete int64\[\] in \[0, 2\], got int\[\] 3",
    "NoKey": r"expected an observation with '/a', '/b', got dict .*KeyError: 'b'",
    "Text": r"expected float32\[2\] in \[-1, 1\], got str 'north'",
    "OldReset": r"expected two values \(observation, info\), got ndarray",
    "OldStep": r"expected five values \(observation, .*\), got 4 values: the environment speaks the inter",
    "NoReward": r"expected one number as reward, got NoneType None",
    "Raises": r"its first reset or step raised OSError: no display \(.*odd_environments.py, line \d+\)",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("registered", [False, True], ids=["class", "id"])
def test_what_differs_is_refused_where_it_is_described(name: str, registered: bool) -> None:
    """Made by its class, or by Gymnasium, whose wrappers stand around it."""
    attribute = f"odd/{name}-v0" if registered else name
    with pytest.raises(SpecError, match=REFUSED[name]):
        describe(f"{MODULE}:{attribute}", "", CARE)


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "Raises"])
def test_and_where_it_is_stepped(name: str) -> None:
    """A client that knows its indices describes nothing. No fault is counted, and nothing sent."""

    def play() -> None:
        environments = make_environments(f"{MODULE}:{name}", "", [0], 0, CARE)
        environments.reset()
        environments.step((np.zeros(1, np.int64),))

    with pytest.raises(SpecError, match=REFUSED[name]):
        play()


def test_in_a_process_of_its_own_too() -> None:
    with pytest.raises(SpecError, match=REFUSED["Negative"]):
        describe(f"{MODULE}:Negative", "", Care(trust=CARE.trust, isolate=True))


def test_an_old_interface_below_gymnasiums_wrappers() -> None:
    """A time limit unpacks five values itself."""
    with pytest.raises(SpecError, match=r"as Gymnasium has them since 0\.26, got another number of values"):
        describe(f'{MODULE}:odd/OldStep-v0{{"max_episode_steps":5}}', "", CARE)


@pytest.mark.parametrize("name", ["Sound", "AlmostInBounds", "Rewards", "Python", "NoSeed", "SeedAlone", "Prints"])
@pytest.mark.parametrize("registered", [False, True], ids=["class", "id"])
def test_what_is_only_unusual_works(name: str, registered: bool) -> None:
    attribute = f"odd/{name}-v0" if registered else name
    describe(f"{MODULE}:{attribute}", "", CARE)
    environments = make_environments(f"{MODULE}:{attribute}", "", [0], 0, CARE)
    environments.reset()
    rewards = [float(environments.step((np.zeros(1, np.int64),)).reward[0]) for _ in range(9)]
    assert rewards == [1.0] * 9


def test_pythons_own_numbers_arrive() -> None:
    environments = make_environments(f"{MODULE}:Python", "", [0], 0, CARE)
    shown = {
        spec.name: array[0].tolist()
        for spec, array in zip(environments.spec.observations, environments.reset().observations, strict=True)
    }
    assert shown == {"/floats": [0, 0.5], "/bytes": [0, 255], "/room": 3, "/bits": [1, 0], "/several": [1, 2]}


def test_a_shape_that_changes_later_is_a_fault() -> None:
    """The episode is cut on what was seen last; it costs the environment, and in the end the client."""
    environments = make_environments(f"{MODULE}:LateRow", "", [0], 0, CARE)
    environments.reset()
    rows = [environments.step((np.zeros(1, np.int64),)) for _ in range(3)][-1]
    assert (rows.step_type[0], rows.discount[0], rows.episode_ends) == (StepType.LAST, 1, ())
    np.testing.assert_array_equal(rows.observations[0], np.full((1, 4), 0.5))

    def play() -> None:
        for _ in range(12):
            environments.step((np.zeros(1, np.int64),))

    with pytest.raises(BrokenError, match=r"expected shape \(4,\), got \(1, 4\)"):
        play()


@pytest.mark.parametrize("name", ["NoSeed", "SeedAlone", "odd/NoSeed-v0", "odd/SeedAlone-v0"])
def test_environments_whose_reset_takes_no_seed_are_as_reproducible_as_their_random_numbers(name: str) -> None:
    first, same, other = (
        make_environments(f"{MODULE}:{name}", "", [0], seed, CARE).reset().observations[0].copy() for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).all()


@pytest.mark.parametrize("ways", [{}, {"isolate": True}, {"vector": "gymnasium"}], ids=str)
def test_images_have_a_median_where_they_are_described(ways: dict[str, Any]) -> None:
    """One of the pixels' own values: of two in the middle the lower one."""
    array = describe(f"{MODULE}:Posts", "", replace(CARE, **ways)).observations[0]
    assert array.median == 60.0
    assert describe("CartPole-v1", "").observations[0].median is None


@pytest.mark.parametrize(("preset", "field"), [("paper", 87.0), ("modern", 87.0)])
def test_the_median_of_a_game_is_the_colour_of_its_field(preset: str, field: float) -> None:
    pytest.importorskip("ale_py")
    assert describe("ALE/Pong-v5", preset).observations[0].median == field
    assert describe("ALE/Breakout-v5", preset).observations[0].median == 0.0
