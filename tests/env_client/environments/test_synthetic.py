"""Synthetic and echo environments, and the arithmetic of echoes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from seedbed.common.echo import (
    ECHO_ACTIONS,
    ECHO_MAX_LENGTH,
    echo_action,
    echo_decode,
    echo_encode,
    echo_length,
    echo_reward,
    echo_truncates,
)
from seedbed.common.errors import InvalidMessageError, SpecError
from seedbed.common.timestep import StepType
from seedbed.env_client.environments.rows import describe, make_environments


def test_echo_survives_encoding_at_the_largest_values() -> None:
    largest = 2**24 - 1
    observation = echo_encode([0, largest], [largest, 1], 5)
    assert observation.dtype == np.float32
    index, episode, step = echo_decode(observation)
    np.testing.assert_array_equal(index, [0, largest])
    np.testing.assert_array_equal(episode, [largest, 1])
    np.testing.assert_array_equal(step, [5, 5])


def test_echo_functions_work_on_any_leading_shape() -> None:
    observation = echo_encode(np.arange(6).reshape(2, 3), 4, 1)
    assert observation.shape == (2, 3, 3)
    actions = echo_action(observation)
    assert actions.shape == (2, 3)
    assert int(echo_action(observation[1, 2])) == actions[1, 2]
    assert echo_reward(observation, actions).shape == (2, 3)
    assert echo_length(np.arange(6), 0).shape == (6,)


def test_echo_actions_spread_evenly_and_depend_on_every_part() -> None:
    index, episode, step = np.meshgrid(np.arange(20), np.arange(20), np.arange(10), indexing="ij")
    actions = echo_action(echo_encode(index, episode, step))
    assert (actions >= 0).all()
    counts = np.bincount(actions.ravel(), minlength=ECHO_ACTIONS)
    assert len(counts) == ECHO_ACTIONS
    np.testing.assert_allclose(counts / actions.size, 1 / ECHO_ACTIONS, atol=0.02)
    for axis in range(3):  # a neighbour's action is right by chance alone
        same = np.mean(actions == np.roll(actions, 1, axis=axis))
        assert same == pytest.approx(1 / ECHO_ACTIONS, abs=0.03)


def splitmix(*parts: int) -> int:
    """SplitMix64's finaliser (Steele et al. 2014) after each part, in plain integers."""
    mixed = 0
    for part in parts:
        mixed = ((mixed ^ part) + 0x9E3779B97F4A7C15) % 2**64
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        mixed ^= mixed >> 31
    return mixed


def test_echo_arithmetic_equals_plain_integers() -> None:
    for index, episode, step, action in [(0, 0, 1, 0), (1, 2, 3, 6), (7, 31, 16, 2), (12345, 2**20, 9, 5)]:
        observation = echo_encode(index, episode, step)
        assert echo_action(observation) == splitmix(0, index, episode, step) % 7
        assert echo_reward(observation, action) == splitmix(1, index, episode, step, action) % 129 / 8 - 8
        assert echo_length(index, episode) == splitmix(2, index, episode) % 16 + 1
        assert echo_truncates(index, episode) == (splitmix(3, index, episode) % 4 == 0)


def test_echo_rewards_are_exact_and_zero_at_first() -> None:
    observation = echo_encode(np.arange(200), 3, np.arange(200))
    rewards = echo_reward(observation, np.arange(200) % ECHO_ACTIONS)
    assert rewards.dtype == np.float32
    assert rewards[0] == 0
    assert (np.abs(rewards) <= 8).all()
    np.testing.assert_array_equal(rewards * 8, np.round(rewards * 8))
    assert len(np.unique(rewards)) > 50


def test_echo_lengths_include_one_and_the_maximum() -> None:
    lengths = echo_length(np.arange(50)[:, None], np.arange(50))
    assert (lengths.min(), lengths.max()) == (1, ECHO_MAX_LENGTH)
    truncated = echo_truncates(np.arange(50)[:, None], np.arange(50))
    assert truncated.mean() == pytest.approx(0.25, abs=0.05)
    assert truncated[lengths == 1].any()


def test_echo_environment_is_what_the_functions_say() -> None:
    environments = make_environments("seedbed/Echo-v0", "", [5, 900, 17], run_seed=1)
    rng = np.random.default_rng(0)
    rows = environments.reset()
    expected_episode, expected_step = np.zeros(3, int), np.zeros(3, int)
    actions = np.zeros(3, np.int64)
    returns = np.zeros(3)
    num_ends = 0
    for _ in range(500):
        index, episode, step = echo_decode(rows.observations[0])
        np.testing.assert_array_equal(index, [5, 900, 17])
        np.testing.assert_array_equal(episode, expected_episode)
        np.testing.assert_array_equal(step, expected_step)
        np.testing.assert_array_equal(rows.reward, echo_reward(rows.observations[0], actions))
        returns = np.where(step == 0, 0, returns + rows.reward)
        last = step == echo_length(index, episode)
        np.testing.assert_array_equal(
            rows.step_type, np.where(step == 0, StepType.FIRST, np.where(last, StepType.LAST, StepType.MID))
        )
        np.testing.assert_array_equal(rows.discount, ~last | echo_truncates(index, episode))
        assert [(end.row, end.episode_return, end.steps, end.frames) for end in rows.episode_ends] == [
            (row, returns[row], step[row], step[row]) for row in np.flatnonzero(last)
        ]
        num_ends += last.sum()
        expected_episode = episode + last
        expected_step = np.where(last, 0, step + 1)
        actions = rng.integers(ECHO_ACTIONS, size=3)
        rows = environments.step((actions,))
    assert num_ends > 100


def test_echo_check_refuses_what_is_not_the_echo() -> None:
    environments = make_environments("seedbed/Echo-v0,check=1", "", [4], run_seed=0)
    rows = environments.reset()
    for _ in range(100):
        rows = environments.step((echo_action(rows.observations[0]),))
        if rows.step_type[0] == StepType.LAST:
            rows = environments.step((np.array([-1]),))  # ignored
    with pytest.raises(InvalidMessageError, match="environment 4, episode"):
        environments.step(((echo_action(rows.observations[0]) + 1) % ECHO_ACTIONS,))


def test_timing_and_checks_are_not_part_of_the_contract() -> None:
    assert describe("seedbed/Echo-v0,check=1,step_ms=5", "") == describe("seedbed/Echo-v0", "")
    assert describe("seedbed/Synthetic-v0,step_ms=2,jitter_ms=1", "").environment == "seedbed/Synthetic-v0"
    assert describe("seedbed/Synthetic-v0,actions=18", "").environment == "seedbed/Synthetic-v0"


@pytest.mark.parametrize(
    ("dtype", "shape", "maximum"), [("uint8", (4, 5, 3), 255), ("float32", (7,), 1), ("int32", (2, 2), 255)]
)
def test_synthetic_shows_what_it_was_told_to(dtype: str, shape: tuple[int, ...], maximum: int) -> None:
    text = "x".join(map(str, shape))
    environments = make_environments(f"seedbed/Synthetic-v0,shape={text},dtype={dtype},actions=3", "", [0, 1], 0)
    spec = environments.spec
    assert (
        spec.environment
        == "seedbed/Synthetic-v0,actions=3" + (f",dtype={dtype}" if dtype != "uint8" else "") + f",shape={text}"
    )
    assert (spec.observations[0].dtype, spec.observations[0].shape, spec.num_actions) == (dtype, shape, 3)
    rows = environments.reset()
    first = rows.observations[0].copy()
    assert first.max() <= maximum
    assert not np.array_equal(first[0], first[1])
    rows = environments.step((np.zeros(2, np.int64),))
    assert not np.array_equal(rows.observations[0], first)
    assert rows.reward.tolist() == [1, 1]


def test_synthetic_ends_on_time() -> None:
    environments = make_environments("seedbed/Synthetic-v0,shape=2,length=3", "", [0], 0)
    rows = environments.reset()
    kinds = [int(rows.step_type[0])]
    for _ in range(4):
        rows = environments.step((np.zeros(1, np.int64),))
        kinds.append(int(rows.step_type[0]))
    assert kinds == [StepType.FIRST, StepType.MID, StepType.MID, StepType.LAST, StepType.FIRST]


def test_step_takes_its_time() -> None:
    environments = make_environments("seedbed/Synthetic-v0,shape=2,step_ms=20,jitter_ms=5", "", [0], 0)
    environments.reset()
    began_s = time.perf_counter()
    for _ in range(5):
        environments.step((np.zeros(1, np.int64),))
    assert 0.1 <= time.perf_counter() - began_s < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shape=4xx", "expected a shape"),
        ("dtype=float64", "dtype out of"),
        ("actions=none", "expected actions to be of type int"),
        ("actions=0", "at least 1"),
        ("colour=red", "expected options out of shape"),
        ("shape=0x3", "dimensions of at least 1"),
    ],
)
def test_senseless_options_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        describe(f"seedbed/Synthetic-v0,{text}", "")
