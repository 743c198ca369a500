"""Packing and unpacking: what goes in comes out, and what must not come in is refused with words that help."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seedbed.common.codec import (
    PROTOCOL_MAJOR,
    StepsReader,
    check_protocol,
    pack_actions,
    pack_hello,
    pack_steps,
    protocol_version,
    spec_from_message,
    spec_to_message,
    unpack_actions,
)
from seedbed.common.errors import InvalidMessageError, SpecError, VersionError
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import EpisodeEnd, Timesteps
from seedbed.proto import seedbed_pb2 as pb

SPEC = EnvironmentSpec(
    environment="test/Two-v0",
    preset="modern",
    frames_per_step=4,
    observations=(
        ArraySpec(name="image", dtype="uint8", shape=(2, 3), low=(0,), high=(255,)),
        ArraySpec(name="speed", dtype="float32"),
    ),
    actions=(
        ArraySpec(name="button", dtype="int64", low=(0,), high=(4,), kind="discrete"),
        ArraySpec(name="stick", dtype="float32", shape=(2,), low=(-1.5,), high=(1,)),
    ),
)


def rows(num_rows: int = 3) -> Timesteps:
    """Every number tells its place."""
    return Timesteps(
        step_type=np.arange(num_rows, dtype=np.uint8) % 3,
        reward=np.arange(num_rows, dtype=np.float32) + 0.5,
        discount=np.linspace(0, 1, num_rows, dtype=np.float32),
        observations=(
            np.arange(num_rows * 6, dtype=np.uint8).reshape(num_rows, 2, 3),
            np.arange(num_rows, dtype=np.float32) * 100,
        ),
        episode_ends=(EpisodeEnd(row=2, episode_return=-21.25, steps=2**40, frames=7),),
    )


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


def test_packing_copies() -> None:
    sent = rows()
    message = pack_steps(1, sent)
    sent.reward[:] = -1
    np.testing.assert_array_equal(StepsReader(SPEC, 3).read(message.steps).reward, rows().reward)


def test_numbers_are_little_endian_floats() -> None:
    swapped = Timesteps(
        rows().step_type, rows().reward.astype(">f4"), rows().discount.astype(np.float64), rows().observations
    )
    message = pack_steps(1, swapped).steps
    assert message.reward == np.array([0.5, 1.5, 2.5], "<f4").tobytes()
    assert len(message.discount) == 12


def test_unpacked_arrays_are_views_that_cannot_be_written() -> None:
    received = StepsReader(SPEC, 3).read(steps_message())
    with pytest.raises(ValueError, match="read-only"):
        received.reward[0] = 1


def test_actions_round_trip() -> None:
    sent = (np.array([4, 0, 2]), np.arange(6, dtype=np.float32).reshape(3, 2) / 10)
    message = pb.ServerMessage.FromString(pack_actions(5, sent, policy_version=77).SerializeToString())
    assert (message.actions.seq, message.actions.policy_version) == (5, 77)
    for ours, theirs in zip(unpack_actions(message.actions, SPEC, 3), sent, strict=True):
        np.testing.assert_array_equal(ours, theirs)


FLOATS = np.array([0.5, np.nan, np.inf], "<f4")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_type": b"\0\1"}, r"step_type: expected 3 bytes \(uint8\[3\]\), got 2"),
        ({"step_type": b"\0\1\3"}, "step_type: expected 0, 1 or 2, got 3"),
        ({"reward": b"\0" * 11}, "reward: expected 12 bytes"),
        ({"reward": FLOATS.tobytes()}, r"reward: expected finite numbers, got NaN or infinity in rows \[1, 2\]"),
        ({"discount": b""}, "discount: expected 12 bytes"),
        ({"discount": np.array([0, 1, 1.5], "<f4").tobytes()}, "discount: expected values from 0 to 1"),
        ({"discount": np.array([0, -0.5, 1], "<f4").tobytes()}, "discount: expected values from 0 to 1"),
        ({"discount": FLOATS.tobytes()}, "discount: expected values from 0 to 1"),
        ({"observations": [b"\0" * 18]}, "observations: expected 2 arrays, got 1"),
        ({"observations": [b"\0" * 18, b"\0" * 12, b""]}, "observations: expected 2 arrays, got 3"),
        ({"observations": [b"\0" * 17, b"\0" * 12]}, r"observations\['image'\]: expected 18 bytes \(3 rows of uint8"),
        ({"observations": [b"\0" * 18, FLOATS.tobytes()]}, r"observation 'speed': expected finite.*rows \[1, 2\]"),
        ({"episode_ends": [pb.EpisodeEnd(row=3)]}, r"episode_ends: expected rows out of \[2\].* got \[3\]"),
        ({"episode_ends": [pb.EpisodeEnd(row=1)]}, r"which are LAST, once each, got \[1\]"),
        ({"episode_ends": [pb.EpisodeEnd(row=2)] * 2}, r"got \[2, 2\]"),
        ({"episode_ends": [pb.EpisodeEnd(row=2, episode_return=float("nan"))]}, "expected a return from .* got nan"),
        ({"episode_ends": [pb.EpisodeEnd(row=2, episode_return=-1e17)]}, r"got -1e\+17"),
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


def test_bad_actions_are_refused() -> None:
    message = pack_actions(1, (np.zeros(3, np.int32), np.zeros((3, 2), np.float32)), 0).actions
    with pytest.raises(InvalidMessageError, match=r"actions\['button'\]: expected 24 bytes"):
        unpack_actions(message, SPEC, 3)


def test_hello_says_it_all() -> None:
    hello = pack_hello(client_id="host-3", run_id=2**64 - 1, group=1, environment_indices=[5, 900], spec=SPEC).hello
    hello = pb.Hello.FromString(hello.SerializeToString())
    assert (hello.client_id, hello.run_id, hello.group) == ("host-3", 2**64 - 1, 1)
    assert [(environment.task, environment.index) for environment in hello.environments] == [
        ("test/Two-v0", 5),
        ("test/Two-v0", 900),
    ]
    assert hello.protocol == protocol_version()
    assert spec_from_message(hello.spec) == SPEC


def test_bound_of_zero_is_not_the_same_as_no_bound() -> None:
    assert spec_from_message(spec_to_message(SPEC)) == SPEC
    assert spec_from_message(spec_to_message(SPEC)).observations[1].low == (-float("inf"),)
    assert spec_from_message(spec_to_message(SPEC)).observations[0].low == (0.0,)


def test_spec_with_an_unknown_dtype_is_refused() -> None:
    message = spec_to_message(SPEC)
    message.observations[0].dtype = pb.DTYPE_INVALID
    with pytest.raises(SpecError, match="'image': expected a known dtype, got code 0"):
        spec_from_message(message)


def test_every_dtype_of_the_wire_has_a_name() -> None:
    for code in pb.DType.values():
        message = pb.EnvironmentSpec(
            environment="x",
            frames_per_step=1,
            observations=[pb.ArraySpec(name="o", dtype=pb.DType.Name(code))],
            actions=[pb.ArraySpec(name="a", dtype=pb.DType.Name(code))],
        )
        if code != pb.DTYPE_INVALID:
            assert spec_to_message(spec_from_message(message)) == message


@pytest.mark.parametrize(("major", "older"), [(PROTOCOL_MAJOR - 1, "the client"), (PROTOCOL_MAJOR + 1, "this side")])
def test_other_major_version_is_refused_and_the_older_side_named(major: int, older: str) -> None:
    with pytest.raises(VersionError, match=f"speaks {major}.7: upgrade {older}"):
        check_protocol(pb.ProtocolVersion(major=major, minor=7), "client")


def test_higher_minor_version_is_fine() -> None:
    check_protocol(pb.ProtocolVersion(major=PROTOCOL_MAJOR, minor=99), "client")
