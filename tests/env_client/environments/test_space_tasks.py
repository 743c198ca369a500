"""Tasks for each kind of space, whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import InvalidMessageError, SpecError
from seedbed.common.timestep import StepType
from seedbed.env_client.environments.building import make_environments
from seedbed.env_client.environments.rows import Environments

FIRST = StepType.FIRST


def returns_of(environments: Environments, answer: Any, steps: int) -> list[tuple[float, int]]:
    """(return, steps) of the episodes that end while `answer` takes the actions, given the newest rows."""
    rows, ends = environments.reset(), []
    for _ in range(steps):
        rows = environments.step(answer(rows))
        ends += [(end.episode_return, end.steps) for end in rows.episode_ends]
    return ends


def switched(space: str, lights: Any) -> tuple[Any, ...]:
    """The answer to lights `[N, 5]`, as it travels."""
    if space == "tuple":
        return tuple(lights[:, light].astype(np.int64) for light in range(5))
    if space == "dict":
        stick = np.where(lights[:, 3:], 0.25, -1.0).astype(np.float32)
        return lights[:, :2].astype(np.uint8), lights[:, 2].astype(np.int64), stick
    if space == "box":
        return (np.where(lights, 1e-3, -0.5).astype(np.float32),)
    return (lights.astype(np.int64 if space == "multi_discrete" else np.uint8),)


@pytest.mark.parametrize("space", ["multi_discrete", "multi_binary", "tuple", "dict", "box"])
def test_lights_pay_the_share_of_switches_that_are_right(space: str) -> None:
    name = "seedbed/Lights-v0" + ("" if space == "multi_discrete" else f",space={space}")
    environments = make_environments(name, "", range(8), 0)
    assert environments.spec.environment == name
    right = returns_of(environments, lambda rows: switched(space, rows.observations[0]), 100)
    assert set(right) == {(1.0, 1)}

    def wrong_in_two(rows: Any) -> tuple[Any, ...]:
        lights = rows.observations[0].copy()
        lights[:, [0, 3]] ^= 1
        return switched(space, lights)

    environments = make_environments(name, "", range(8), 0)
    assert {round(share, 6) for share, _ in returns_of(environments, wrong_in_two, 20)} == {0.6}


def test_lights_know_their_spaces() -> None:
    with pytest.raises(SpecError, match=r"expected a space out of multi_discrete, .*, got 'graph'"):
        make_environments("seedbed/Lights-v0,space=graph", "", [0], 0)


def test_reach_is_a_time_limit_and_known_at_both_ends() -> None:
    environments = make_environments("seedbed/Reach-v0", "", range(64), 0)
    towards = returns_of(environments, lambda rows: (np.clip(-10 * rows.observations[0], -1, 1),), 2000)
    assert {steps for _, steps in towards} == {20}
    assert np.mean([earned for earned, _ in towards]) == pytest.approx(-0.67, abs=0.07)
    rows = environments.step((np.zeros((64, 1), np.float32),))
    assert (rows.discount == 1).all(), "a time limit"
    rng = np.random.default_rng(0)
    environments = make_environments("seedbed/Reach-v0", "", range(64), 0)
    random = returns_of(environments, lambda rows: (rng.uniform(-1, 1, (64, 1)),), 2000)
    assert np.mean([earned for earned, _ in random]) == pytest.approx(-7.4, abs=0.4)


def moves(board: Any) -> int:
    ball, paddle = np.argwhere(board[:-1].any(axis=0)), int(board[-1].argmax())
    return 1 if not len(ball) else int(np.sign(ball[0, 0] - paddle)) + 1


def test_masked_catch_allows_what_stays_on_the_board() -> None:
    environments = make_environments("seedbed/CatchMasked-v0", "", range(32), 0)
    rng = np.random.default_rng(0)
    rows, ends, kinds = environments.reset(), [], set()
    for _ in range(300):
        board, mask = rows.observations
        paddle = board[:, -1].argmax(-1)
        assert (paddle[rows.step_type == FIRST] == 2).all()
        goes_on = rows.step_type != StepType.LAST  # at the end the ball lies beside the paddle
        expected = np.stack([paddle > 0, paddle >= 0, paddle < 4, paddle < 0], -1)
        np.testing.assert_array_equal(mask[goes_on], expected[goes_on])
        kinds |= set(map(tuple, mask.tolist()))
        rows = environments.step((np.array([rng.choice(np.flatnonzero(row)) for row in mask]),))
        ends += list(rows.episode_ends)
    assert len(kinds) == 3
    assert {end.steps for end in ends} == {9}, "no allowed move ends an episode"


def test_a_forbidden_move_costs_the_episode_or_the_client() -> None:
    for move, moved in ((3, 0), (0, 2), (2, 2)):
        environments = make_environments("seedbed/CatchMasked-v0", "", [0], 0)
        environments.reset()
        for _ in range(moved):
            rows = environments.step((np.array([move]),))
            assert rows.step_type[0] != StepType.LAST
        rows = environments.step((np.array([move]),))
        assert (rows.step_type[0], rows.reward[0], rows.discount[0]) == (StepType.LAST, -1.0, 0.0)
    strict = make_environments("seedbed/CatchMasked-v0,strict=1", "", [0], 0)
    assert strict.spec.environment == "seedbed/CatchMasked-v0"
    strict.reset()
    with pytest.raises(InvalidMessageError, match=r"expected one of the moves \[0, 1, 2\], got 3"):
        strict.step((np.array([3]),))
    bare = make_environments("seedbed/CatchMasked-v0,shown=0", "", [0], 0)
    assert bare.spec.environment == "seedbed/CatchMasked-v0,shown=0"
    assert len(bare.spec.observations) == 1


def test_catch_in_a_dict_needs_both_arrays() -> None:
    environments = make_environments("seedbed/CatchDict-v0", "", range(16), 0)
    plain = make_environments("seedbed/Catch-v0", "", range(16), 0)
    rows, boards = environments.reset(), plain.reset()
    ends = []
    for _ in range(200):
        ball, paddle = rows.observations
        board = ball[:, ::2, ::2, 0].astype(bool)
        drawn = board.copy()
        drawn[np.arange(16), -1, paddle] = True
        np.testing.assert_array_equal(drawn, boards.observations[0].astype(bool))
        column = board.any(1).argmax(-1)
        actions = (np.sign(column - paddle) + 1,)
        rows, boards = environments.step(actions), plain.step(actions)
        ends += [end.episode_return for end in rows.episode_ends]
    assert set(ends) == {1.0}
