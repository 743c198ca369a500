"""Packing, and specs there and back: what goes in comes out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from seedbed.common.codec import (
    PROTOCOL_MAJOR,
    check_protocol,
    described_specs,
    pack_hello,
    pack_steps,
    protocol_version,
    spec_from_message,
    spec_to_message,
)
from seedbed.common.errors import SpecError, UnavailableError, VersionError
from seedbed.common.specs import DTYPES, ArraySpec, EnvironmentSpec, Kind, Role, action_mask
from seedbed.common.timestep import Timesteps
from seedbed.proto import seedbed_pb2 as pb
from tests.reference.two_arrays import SPEC, rows


def test_numbers_are_little_endian_floats() -> None:
    swapped = Timesteps(
        rows().step_type, rows().reward.astype(">f4"), rows().discount.astype(np.float64), rows().observations
    )
    message = pack_steps(1, swapped).steps
    assert message.reward == np.array([0, 1.5, 3], "<f4").tobytes()
    assert len(message.discount) == 12


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


def test_packing_copies() -> None:
    sent = rows()
    message = pack_steps(1, sent).steps
    sent.reward[:] = -1
    assert message.reward == rows().reward.tobytes()


def test_bound_of_zero_is_not_the_same_as_no_bound() -> None:
    assert spec_from_message(spec_to_message(SPEC)) == SPEC
    assert spec_from_message(spec_to_message(SPEC)).observations[1].low == (-float("inf"),)
    assert spec_from_message(spec_to_message(SPEC)).observations[0].low == (0.0,)


@pytest.mark.parametrize("field", ["dtype", "role", "kind"])
@pytest.mark.parametrize("code", [0, 99])
def test_unknown_codes_of_a_spec_are_refused(field: str, code: int) -> None:
    message = spec_to_message(SPEC)
    setattr(message.observations[0], field, code)
    with pytest.raises(SpecError, match=f"'image': expected a known {field}, got code {code}"):
        spec_from_message(message)


@pytest.mark.parametrize(
    "spec",
    [
        *(ArraySpec(name="x", dtype=dtype, shape=(2, 3)) for dtype in DTYPES),
        *(ArraySpec(name="x", dtype="uint8", low=(0,), high=(1,), kind=kind) for kind in get_args(Kind)),
        action_mask(SPEC.actions, "mask", source_dtype="int8"),
        ArraySpec(
            name="x", dtype="float32", shape=(2,), low=(-math.inf, 0), high=(1, math.inf), source_dtype="float64"
        ),
    ],
    ids=str,
)
def test_specs_of_every_kind_cross_the_wire(spec: ArraySpec) -> None:
    whole = replace(SPEC, observations=(*SPEC.observations, spec))
    message = pb.EnvironmentSpec.FromString(spec_to_message(whole).SerializeToString())
    assert spec_from_message(message) == whole


def test_the_median_of_an_image_travels_and_is_no_part_of_the_contract() -> None:
    image = ArraySpec(name="image", dtype="uint8", shape=(84, 84), median=0.0)
    seen, unseen = (
        spec_from_message(spec_to_message(replace(SPEC, observations=(one,))))
        for one in (image, replace(image, median=None))
    )
    assert [spec.observations[0].median for spec in (seen, unseen)] == [0.0, None]
    assert seen == unseen
    assert seen.differences(unseen) == []
    assert EnvironmentSpec.from_json(seen.to_json()).observations[0].median == 0.0
    assert "median" not in unseen.observations[0].to_json()
    sent = spec_to_message(SPEC)
    sent.observations[0].median = math.nan
    with pytest.raises(SpecError, match="'image': expected a finite median, got nan"):
        spec_from_message(sent)


def test_every_code_of_the_wire_has_a_name() -> None:
    for codes, names in ((pb.DType, DTYPES), (pb.Kind, get_args(Kind)), (pb.Role, get_args(Role))):
        assert len(codes.values()) == len(names) + 1, "all but INVALID"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": [0.0, 0.0]}, "expected 1 or 6 numbers as low, got 2"),
        ({"high": []}, "expected 1 or 6 numbers as high, got 0"),
        ({"low": [math.nan]}, "expected numbers as low, got NaN"),
        ({"shape": [2, 0]}, "expected dimensions of at least 1"),
    ],
)
def test_impossible_specs_are_refused(changes: dict[str, list[float]], message: str) -> None:
    sent = spec_to_message(SPEC)
    for name, values in changes.items():
        sent.observations[0].ClearField(name)
        getattr(sent.observations[0], name).extend(values)
    with pytest.raises(SpecError, match=message):
        spec_from_message(sent)


def test_what_a_server_describes_is_one_spec_or_several_but_not_none() -> None:
    for count in (1, 2):
        assert described_specs(pb.DescribeResponse(specs=[spec_to_message(SPEC)] * count)) == (SPEC,) * count
    with pytest.raises(UnavailableError, match="takes that of the first client with --env"):
        described_specs(pb.DescribeResponse())


@pytest.mark.parametrize(("major", "older"), [(PROTOCOL_MAJOR - 1, "the client"), (PROTOCOL_MAJOR + 1, "this side")])
def test_other_major_version_is_refused_and_the_older_side_named(major: int, older: str) -> None:
    with pytest.raises(VersionError, match=f"speaks {major}.7: upgrade {older}"):
        check_protocol(pb.ProtocolVersion(major=major, minor=7), "client")


def test_higher_minor_version_is_fine() -> None:
    check_protocol(pb.ProtocolVersion(major=PROTOCOL_MAJOR, minor=99), "client")
