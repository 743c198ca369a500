"""Echo environments of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed.common.echo import (
    ECHO_ACTIONS,
    echo_action,
    echo_actions,
    echo_decode,
    echo_digest,
    echo_length,
    echo_observations,
    echo_reward,
    echo_truncates,
)
from seedbed.common.errors import InvalidMessageError
from seedbed.common.timestep import StepType
from seedbed.env_client.environments.building import Care, describe, make_environments
from seedbed.env_client.environments.echo import ECHO_SPECS


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


def test_there_is_one_for_every_kind() -> None:
    actions = [spec for environment in ECHO_SPECS.values() for spec in environment.actions]
    shown = [spec for environment in ECHO_SPECS.values() for spec in environment.observations]
    assert {spec.kind for spec in actions} == {spec.kind for spec in shown} == {"box", "discrete", "binary"}
    assert {spec.dtype for spec in shown} == {"uint8", "int32", "int64", "float32"}
    assert [spec.mask_position for spec in ECHO_SPECS.values()] == [None, None, 1, None, 2]


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("name", ECHO_SPECS)
def test_every_array_is_what_the_functions_say(name: str, isolate: bool) -> None:
    environments = make_environments(f"{name},check=1", "", [5, 900, 17], 1, Care(isolate=isolate))
    spec = environments.spec
    assert spec == ECHO_SPECS[name] == describe(name, "")
    try:
        rows = environments.reset()
        for _ in range(40):
            for array, expected in zip(rows.observations, echo_observations(spec, rows.observations[0]), strict=True):
                np.testing.assert_array_equal(array, expected)
            answers = echo_actions(spec.actions, rows.observations[0])
            last = rows.step_type == StepType.LAST
            rows = environments.step(answers)
            _, _, step = echo_decode(rows.observations[0])
            np.testing.assert_array_equal(
                rows.reward, echo_reward(rows.observations[0], echo_digest(spec.actions, answers))
            )
            np.testing.assert_array_equal(step == 0, last)
    finally:
        environments.close()


@pytest.mark.parametrize("name", ECHO_SPECS)
def test_the_check_notices_every_element(name: str) -> None:
    spec = ECHO_SPECS[name]
    for position, action in enumerate(spec.actions):
        for element in range(action.num_elements):
            environments = make_environments(f"{name},check=1", "", [4], run_seed=0)
            answers = [array.copy() for array in echo_actions(spec.actions, environments.reset().observations[0])]
            answers[position].flat[element] += 1
            with pytest.raises(InvalidMessageError, match="environment 4, episode 0, step 0: expected the echo"):
                environments.step(tuple(answers))
