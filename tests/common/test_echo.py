"""The arithmetic of echoes."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed.common.echo import (
    ECHO_ACTIONS,
    ECHO_MAX_LENGTH,
    echo_action,
    echo_actions,
    echo_decode,
    echo_digest,
    echo_encode,
    echo_length,
    echo_mask,
    echo_observations,
    echo_reward,
    echo_truncates,
)
from seedbed.common.specs import ArraySpec, EnvironmentSpec, action_mask, discrete

BOX = ArraySpec(name="/stick", dtype="float32", shape=(2, 2), low=(-7,), high=(9,))
KEYS = ArraySpec(name="/keys", dtype="int64", shape=(3,), low=(5,), high=(5, 7, 9), kind="discrete")
FLAGS = ArraySpec(name="/flags", dtype="uint8", shape=(2,), low=(0,), high=(1,), kind="binary")
ACTIONS = (discrete("/button", 7, start=3), BOX, KEYS, FLAGS)
SPEC = EnvironmentSpec(
    environment="x",
    observations=(
        ArraySpec(name="/id", dtype="float32", shape=(3,), low=(0,)),
        ArraySpec(name="/image", dtype="uint8", shape=(4, 4), low=(0,), high=(255,)),
        action_mask(ACTIONS, "/action_mask"),
        ArraySpec(name="/speed", dtype="float32"),
        discrete("/room", 3, start=-1),
    ),
    actions=ACTIONS,
)


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


def many() -> np.typing.NDArray[np.float32]:
    """Observations `[20, 30, 10, 3]`."""
    return echo_encode(*np.meshgrid(np.arange(20), np.arange(30), np.arange(10), indexing="ij"))


def test_one_discrete_action_is_the_echo_of_old() -> None:
    (action,) = echo_actions((discrete("action", ECHO_ACTIONS),), many())
    np.testing.assert_array_equal(action, echo_action(many()))
    np.testing.assert_array_equal(echo_actions(ACTIONS, many())[0], echo_action(many()))


def test_actions_of_every_kind_are_within_their_bounds_and_spread() -> None:
    for spec, array in zip(ACTIONS, echo_actions(ACTIONS, many()), strict=True):
        assert array.shape == (20, 30, 10, *spec.shape)
        assert array.dtype == spec.numpy_dtype
        assert (array >= spec.sent_low).all()
        assert (array <= spec.sent_high).all()
        elements = array.reshape(6000, -1)
        expected = spec.num_values or (129,) * 4
        assert [len(np.unique(element)) for element in elements.T] == list(expected)
        if spec.num_elements > 1:
            assert not np.array_equal(elements[:, 0], elements[:, 1]), "no two elements are alike"


def test_actions_of_one_row_are_those_of_many() -> None:
    observation = many()
    for one, all_of_them in zip(
        echo_actions(ACTIONS, observation[3, 4, 5]), echo_actions(ACTIONS, observation), strict=True
    ):
        np.testing.assert_array_equal(one, all_of_them[3, 4, 5])


def test_masks_allow_the_echo_and_about_half_of_the_rest() -> None:
    mask = echo_mask(ACTIONS, many()).reshape(6000, -1)
    assert mask.dtype == np.uint8
    assert mask.shape[1] == SPEC.num_mask_entries == 7 + 1 + 3 + 5 + 2 + 2
    assert set(np.unique(mask)) == {0, 1}
    sizes = [size for spec in ACTIONS for size in spec.num_values]
    arrays = [array for array in echo_actions(ACTIONS, many()) if array.dtype.kind != "f"]
    elements = np.concatenate([array.reshape(6000, -1) for array in arrays], axis=1).astype(np.int64)
    start = 0
    for element, size in zip(elements.T, sizes, strict=True):
        part = mask[:, start : start + size]
        assert part[np.arange(6000), element].all()
        assert part.mean() == pytest.approx((1 + (size - 1) / 2) / size, abs=0.02)
        start += size


def test_masks_of_single_rows_and_of_one_discrete_action() -> None:
    observation = many()
    np.testing.assert_array_equal(echo_mask(ACTIONS, observation)[7, 8, 9], echo_mask(ACTIONS, observation[7, 8, 9]))
    assert echo_mask((discrete("action", 3),), observation[0, 0, 0]).shape == (3,)


def test_observations_of_every_kind_follow_from_the_first() -> None:
    shown = echo_observations(SPEC, many())
    np.testing.assert_array_equal(shown[0], many())
    np.testing.assert_array_equal(shown[2], echo_mask(ACTIONS, many()))
    for spec, array in zip(SPEC.observations, shown, strict=True):
        assert array.shape == (20, 30, 10, *spec.shape)
        assert array.dtype == spec.numpy_dtype
        assert (array >= spec.lower).all()
        assert (array <= spec.upper).all()
        assert len(np.unique(array)) >= 2
    image = shown[1].reshape(6000, -1)
    assert len(np.unique(image, axis=0)) == 6000, "no two rows look alike"
    for array, one in zip(shown, echo_observations(SPEC, many()[1, 2, 3]), strict=True):
        np.testing.assert_array_equal(array[1, 2, 3], one)


def test_rewards_depend_on_every_element_of_the_action() -> None:
    observation = echo_encode(3, 4, 5)
    actions = echo_actions(ACTIONS, observation)
    right = echo_reward(observation, echo_digest(ACTIONS, actions))
    changed = 0
    for position, array in enumerate(actions):
        for element in range(array.size):
            others = [part.copy() for part in actions]
            others[position].flat[element] += 1 / 64 if position == 1 else 1
            assert echo_digest(ACTIONS, others) != echo_digest(ACTIONS, actions)
            changed += echo_reward(observation, echo_digest(ACTIONS, others)) != right
    assert changed >= 9, "but for chance"
    several = echo_actions(ACTIONS, many())
    assert echo_digest(ACTIONS, several)[3, 4, 5] == echo_digest(ACTIONS, [array[3, 4, 5] for array in several])


def test_one_discrete_action_is_its_own_digest() -> None:
    numbers = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(echo_digest(ACTIONS[:1], (numbers,)), numbers)
