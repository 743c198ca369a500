"""Environments whose rows are filled up: zeros behind their own values, masks of their own actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import SpecError
from seedbed.common.joint_spec import join, served
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.env_client.environments.building import Care, describe, make_environments
from seedbed.env_client.environments.filled_up import FilledUp, fill_up, fits_among
from seedbed.env_client.environments.interface import Row, Status
from seedbed.env_client.environments.random_actions import some_action
from seedbed.env_client.environments.spaces import action_specs


def spec(name: str, channels: int, sizes: tuple[int, ...], **changes: Any) -> EnvironmentSpec:
    array = ArraySpec(name="observation", dtype="uint8", shape=(5, 6, channels), low=(0,), high=(9,))
    action = ArraySpec(
        name="action",
        dtype="int64",
        shape=(len(sizes),),
        low=(0,),
        high=tuple(size - 1.0 for size in sizes),
        kind="discrete",
    )
    return replace(EnvironmentSpec(environment=name, observations=(array,), actions=(action,)), **changes)


class Counting:
    """Shows how often it was stepped, everywhere."""

    frames = 7

    def __init__(self, own: EnvironmentSpec) -> None:
        self.spec = own
        self.steps = 0
        self.actions: list[list[int]] = []

    def reset(self, observation: Row) -> None:
        observation[0][...] = 1

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        self.actions.append(action[0].tolist())
        self.steps += 1
        observation[0][...] = 1 + self.steps
        return 0.5, Status.RUNNING

    def close(self) -> None:
        pass


def test_channels_are_zero_and_missing_actions_masked() -> None:
    small, large = spec("a", 2, (2, 3)), spec("b", 4, (3, 3))
    like = served(join([small, large], "both"))[0]
    inner = Counting(small)
    outer = FilledUp(inner, like)
    assert outer.spec == like
    row = tuple(np.full(array.shape, 77, array.numpy_dtype) for array in like.observations)
    outer.reset(row)
    assert (row[0][..., :2] == 1).all()
    assert not row[0][..., 2:].any()
    assert row[1].tolist() == [1, 1, 0, 1, 1, 1]
    assert outer.step((np.array([1, 2]),), row) == (0.5, Status.RUNNING)
    assert (row[0][..., :2] == 2).all()
    assert (inner.actions, outer.frames) == ([[1, 2]], 7)
    for _ in range(50):
        assert some_action(like, row, np.random.default_rng(0))[0][0] < 2


def test_many_rows_are_filled_up_alike() -> None:
    small, large = spec("a", 2, (2, 3)), spec("b", 4, (3, 3))
    like = served(join([small, large], "both"))[0]
    shown, mask = fill_up([np.ones((3, 5, 6, 2), np.uint8)], small, like)
    assert shown.shape == (3, 5, 6, 4)
    assert int(shown.sum()) == 3 * 5 * 6 * 2
    assert mask.tolist() == [[1, 1, 0, 1, 1, 1]] * 3


def test_a_whole_array_that_is_lacked_is_zero_wherever_it_stands() -> None:
    small, large = spec("a", 2, (2, 3)), spec("b", 2, (2, 3))
    health = ArraySpec(name="/health", dtype="float32", shape=(1,), low=(5,), high=(100,))
    large = replace(large, observations=(health, *large.observations))
    joint = join([large, small], "both")
    like = served(joint)[1]
    outer = FilledUp(Counting(small), like)
    row = tuple(np.full(array.shape, 77, array.numpy_dtype) for array in like.observations)
    outer.reset(row)
    outer.step((np.array([1, 2]),), row)
    assert (row[0].tolist(), set(row[1].flat)) == ([0.0], {2})
    shown = fill_up([np.ones((3, 5, 6, 2), np.uint8)], small, like)
    assert (shown[0].tolist(), int(shown[1].sum())) == ([[0.0]] * 3, 3 * 5 * 6 * 2)
    assert fits_among(small, served(joint)) == like


def test_only_what_fits_is_filled_up() -> None:
    small, large = spec("a", 2, (2, 3)), spec("b", 4, (3, 3))
    first, second = served(join([small, large], "both"))
    assert fits_among(small, (first, second)) == first
    assert fits_among(first, (first, second)) is None  # as it should be already
    assert fits_among(spec("c", 2, (2, 3)), (first, second)) is None
    assert fits_among(spec("a", 9, (2, 3)), (first, second)) is None  # the server will say what differs
    with pytest.raises(SpecError, match="a: expected"):
        FilledUp(Counting(spec("a", 9, (2, 3))), first)


def test_clients_fill_up_what_their_server_lists() -> None:
    """Catch has three actions, its masked kin a fourth and a mask."""
    names = ("seedbed/Catch-v0", "seedbed/CatchMasked-v0")
    joint = join([describe(name, "") for name in names], "both")
    care = Care(served=served(joint))
    for name, masks in zip(names, ([1, 1, 1, 0], None), strict=True):
        environments = make_environments(name, "", [0, 1], 0, care)
        rows = environments.reset()
        assert environments.spec == next(one for one in served(joint) if one.environment == name)
        assert [array.shape for array in rows.observations] == [(2, 10, 5), (2, 4)]
        assert masks is None or rows.observations[1].tolist() == [masks] * 2
        environments.close()


def test_discrete_actions_count_from_their_own_lowest() -> None:
    pytest.importorskip("gymnasium")
    from gymnasium.spaces import Discrete

    (own,) = action_specs(Discrete(3, start=5))
    wide = replace(spec("b", 2, (6,)), actions=(discrete("action", 6),))
    small = replace(wide, environment="a", actions=(own,))
    assert served(join([small, wide], "both"))[0].actions[0].low == (5,)
