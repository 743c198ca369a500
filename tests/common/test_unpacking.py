"""Reading messages: what went in comes out, and what must not come in is refused with words that help."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from seedbed.common.codec import pack_actions, pack_steps
from seedbed.common.errors import InvalidMessageError
from seedbed.common.specs import ArraySpec, action_mask
from seedbed.common.timestep import is_usable
from seedbed.common.unpacking import ActionsReader, StepsReader
from seedbed.proto import seedbed_pb2 as pb
from tests.reference.two_arrays import SPEC, rows


def steps_message(**changes: Any) -> pb.Steps:
    """A valid Steps of three rows, with some of its fields replaced."""
    message = pack_steps(1, rows()).steps
    for name, value in changes.items():
        message.ClearField(name)
        if isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return message


def test_steps_round_trip() -> None:
    message = pb.ClientMessage.FromString(pack_steps(9, rows()).SerializeToString())
    assert message.steps.seq == 9
    received, sent = StepsReader(SPEC, 3).read(message.steps), rows()
    np.testing.assert_array_equal(received.step_type, sent.step_type)
    np.testing.assert_array_equal(received.reward, sent.reward)
    np.testing.assert_array_equal(received.discount, sent.discount)
    for ours, theirs in zip(received.observations, sent.observations, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert received.episode_ends == sent.episode_ends
    assert received.num_rows == 3


def test_unpacked_arrays_are_views_that_cannot_be_written() -> None:
    received = StepsReader(SPEC, 3).read(steps_message())
    with pytest.raises(ValueError, match="read-only"):
        received.reward[0] = 1


def test_actions_round_trip() -> None:
    sent = (np.array([4, 0, 2]), np.arange(6, dtype=np.float32).reshape(3, 2) / 10)
    message = pb.ServerMessage.FromString(pack_actions(5, sent, policy_version=77).SerializeToString())
    assert (message.actions.seq, message.actions.policy_version) == (5, 77)
    for ours, theirs in zip(ActionsReader(SPEC, 3).read(message.actions), sent, strict=True):
        np.testing.assert_array_equal(ours, theirs)


ONES = np.ones(3, "<f4")
FLOATS = np.array([0.5, np.nan, np.inf], "<f4")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_type": b"\0\1"}, r"step_type: expected 3 bytes \(uint8\[3\]\), got 2"),
        ({"step_type": b"\0\1\3"}, "step_type: expected 0, 1 or 2, got 3"),
        ({"reward": b"\0" * 11}, "reward: expected 12 bytes"),
        ({"reward": FLOATS.tobytes()}, r"reward: expected finite .* at most 1e\+18, got \[nan, inf\] in rows \[1, 2\]"),
        ({"discount": b""}, "discount: expected 12 bytes"),
        ({"discount": np.array([0, 1, 1.5], "<f4").tobytes()}, "discount: expected values from 0 to 1"),
        ({"discount": np.array([0, -0.5, 1], "<f4").tobytes()}, "discount: expected values from 0 to 1"),
        ({"discount": FLOATS.tobytes()}, "discount: expected values from 0 to 1"),
        ({"observations": [b"\0" * 18]}, "observations: expected 2 arrays, got 1"),
        ({"observations": [b"\0" * 18, b"\0" * 12, b""]}, "observations: expected 2 arrays, got 3"),
        ({"observations": [b"\0" * 17, b"\0" * 12]}, r"observations\['image'\]: expected 18 bytes \(3 rows of uint8"),
        ({"observations": [b"\0" * 18, FLOATS.tobytes()]}, r"observation 'speed': expected finite.*rows \[1, 2\]"),
        (
            {"reward": ONES.tobytes()},
            "reward: expected 0 where step_type is FIRST, got 1.0 in row 0$",
        ),
        ({"discount": bytes(12)}, "discount: expected 1 where step_type is FIRST, got 0.0 in row 0$"),
        (
            {"discount": ONES.astype(">f4").tobytes()},
            "discount: expected 1 where .*FIRST, got 4.6.*big-endian",
        ),
        ({"episode_ends": [pb.EpisodeEnd(row=2)] * 4}, "episode_ends: expected at most 3, got 4"),
        ({"episode_ends": [pb.EpisodeEnd(row=3)]}, r"episode_ends: expected rows out of \[2\].* got \[3\]"),
        ({"episode_ends": [pb.EpisodeEnd(row=1)]}, r"which are LAST, once each, got \[1\]"),
        ({"episode_ends": [pb.EpisodeEnd(row=2)] * 2}, r"got \[2, 2\]"),
        ({"episode_ends": [pb.EpisodeEnd(row=2, episode_return=float("nan"))]}, "expected a return from .* got nan"),
        ({"episode_ends": [pb.EpisodeEnd(row=2, episode_return=-1e17)]}, r"got -1e\+17"),
        ({"episode_ends": [pb.EpisodeEnd(row=2, info={"<b>": 1.0})]}, "names in info of 1 to 64 letters.* got '<b>'"),
        ({"episode_ends": [pb.EpisodeEnd(row=2, info={"n" * 65: 1.0})]}, "names in info of 1 to 64 letters"),
        ({"episode_ends": [pb.EpisodeEnd(row=2, info={"won": float("nan")})]}, "'won' in info to be finite.* got nan"),
        ({"episode_ends": [pb.EpisodeEnd(row=2, info={"won": 1e39})]}, r"finite as float32, got 1e\+39"),
        (
            {"episode_ends": [pb.EpisodeEnd(row=2, info={f"n{i}": 1.0 for i in range(33)})]},
            "at most 32 numbers in info",
        ),
        ({"episode_ends": [pb.EpisodeEnd(row=2, steps=2**53 + 1)]}, "expected at most 2.53 steps and frames"),
        ({"episode_ends": [pb.EpisodeEnd(row=2, frames=2**64 - 1)]}, "got 0 and 18446744073709551615"),
    ],
)
def test_bad_steps_are_refused_with_what_was_expected_and_what_came(changes: dict[str, Any], message: str) -> None:
    StepsReader(SPEC, 3).read(steps_message())
    with pytest.raises(InvalidMessageError, match=message):
        StepsReader(SPEC, 3).read(steps_message(**changes))


def test_a_reader_keeps_nothing_of_the_messages_before() -> None:
    reader = StepsReader(SPEC, 3)
    first = reader.read(steps_message())
    with pytest.raises(InvalidMessageError, match="reward: expected finite"):
        reader.read(steps_message(reward=FLOATS.tobytes()))
    zeros = reader.read(steps_message(reward=bytes(12), discount=bytes(12), step_type=b"\2\2\2", episode_ends=[]))
    assert zeros.reward.tolist() == zeros.discount.tolist() == [0, 0, 0]
    assert zeros.episode_ends == ()
    np.testing.assert_array_equal(first.reward, rows().reward)
    assert first.episode_ends == rows().episode_ends


def test_steps_of_another_number_of_rows_are_refused() -> None:
    with pytest.raises(InvalidMessageError, match="expected 4 bytes"):
        StepsReader(SPEC, 4).read(steps_message())


def test_a_first_row_without_reward_is_no_more_than_that() -> None:
    """Reward 0 and discount 1 may stand in any row, and -0.0 is 0."""
    reader = StepsReader(SPEC, 3)
    for rewards in ([0, 0, 0], [-0.0, 7, 0], [0, 7, 0]):
        for discounts in ([1, 1, 1], [1, 0, 1]):
            sent = np.array(rewards, "<f4"), np.array(discounts, "<f4")
            read = reader.read(steps_message(reward=sent[0].tobytes(), discount=sent[1].tobytes()))
            assert (read.reward.tolist(), read.discount.tolist()) == (rewards, discounts)


INDICES = (
    ArraySpec(name="room", dtype="int32", low=(10,), high=(12,), kind="discrete"),
    ArraySpec(name="doors", dtype="uint8", shape=(2, 2), low=(0,), high=(1,), kind="binary"),
    action_mask(SPEC.actions),
)
"""Observations whose values are indices into tables of the network, or of probabilities."""

INDEXED = replace(SPEC, observations=INDICES)


def indexed_rows() -> list[Any]:
    return [
        np.array([10, 12, 11], np.int32),
        np.array([[[0, 1], [1, 0]]] * 3, np.uint8),
        np.array([[0, 1, 0, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], np.uint8),
    ]


def test_indices_and_masks_arrive() -> None:
    read = StepsReader(INDEXED, 3).read(steps_message(observations=[array.tobytes() for array in indexed_rows()]))
    for ours, theirs in zip(read.observations, indexed_rows(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("array", "row", "value", "message"),
    [
        (0, 1, 13, r"'room': expected discrete int32\[\] in \[10, 12\], got \[13\] in rows \[1\]"),
        (0, 2, 9, r"'room': expected .* got \[9\] in rows \[2\]"),
        (0, 0, -(2**31), "'room': expected"),
        (1, 2, 2, r"'doors': expected binary uint8\[2, 2\] in \[0, 1\], got \[2, 2, 2, 2\] in rows \[2\]"),
        (2, 0, 255, r"'action_mask': expected binary uint8\[5\].* as action mask, got \[255, .*\] in rows \[0\]"),
    ],
)
def test_indices_out_of_range_are_refused(array: int, row: int, value: int, message: str) -> None:
    arrays = indexed_rows()
    arrays[array][row] = value
    with pytest.raises(InvalidMessageError, match=message):
        StepsReader(INDEXED, 3).read(steps_message(observations=[part.tobytes() for part in arrays]))


@pytest.mark.parametrize(
    ("stick", "message"),
    [
        (1.001, r"actions\['stick'\]: expected float32\[2\] in \[-1.5, 1\] as it travels, got \[1.00.* in rows \[1\]"),
        (-1.25, "'stick'"),
        (math.nan, r"got \[nan\] in rows \[1\]"),
        (math.inf, "'stick'"),
    ],
)
def test_box_actions_travel_between_minus_one_and_one(stick: float, message: str) -> None:
    """Whatever the environment's own bounds are."""
    sticks = np.array([[-1, 1], [0, stick], [0.5, 0.5]], np.float32)
    with pytest.raises(InvalidMessageError, match=message):
        ActionsReader(SPEC, 3).read(pack_actions(1, (np.zeros(3, np.int64), sticks), 0).actions)


def test_discrete_actions_travel_from_zero() -> None:
    spec = replace(SPEC, actions=(ArraySpec(name="a", dtype="int64", low=(-3,), high=(-1,), kind="discrete"),))
    (read,) = ActionsReader(spec, 3).read(pack_actions(1, (np.array([0, 1, 2]),), 0).actions)
    assert read.tolist() == [0, 1, 2]
    for wrong in (-1, 3):
        with pytest.raises(InvalidMessageError, match=rf"got \[{wrong}\] in rows \[2\]"):
            ActionsReader(spec, 3).read(pack_actions(1, (np.array([0, 0, wrong]),), 0).actions)


def test_bad_actions_are_refused() -> None:
    message = pack_actions(1, (np.zeros(3, np.int32), np.zeros((3, 2), np.float32)), 0).actions
    with pytest.raises(InvalidMessageError, match=r"actions\['button'\]: expected 24 bytes"):
        ActionsReader(SPEC, 3).read(message)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_of_every_precision_are_compared_without_a_warning(dtype: type[np.floating[Any]]) -> None:
    assert is_usable(np.array([-1, 2], dtype))
    assert is_usable(np.zeros(0, dtype))
    for wrong in (np.nan, np.inf, -np.inf):
        assert not is_usable(np.array([0, wrong], dtype))
