"""What a client is held to, and how much it may say. What Hello must say is tested over the wire (conformance)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from seedbed.common.codec import pack_hello, spec_to_message
from seedbed.common.errors import InvalidMessageError, SpecError, VersionError
from seedbed.common.joint_spec import join
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.proto import seedbed_pb2 as pb
from seedbed.server.frontend.admission import MAX_SPEC_BYTES, FrontendConfig, check_first, check_hello
from seedbed.server.frontend.process import max_message_bytes
from seedbed.server.frontend.rpc import text_of


@pytest.mark.parametrize("step_types", [b"\0\0", b"\1\2"])
def test_first_stands_where_it_is_expected(step_types: bytes) -> None:
    check_first(step_types, np.full(2, step_types == b"\0\0"))


@pytest.mark.parametrize(
    ("step_types", "expected", "got"),
    [
        (b"\1\0\2", [True, True, False], r"got \[1\] in rows \[0\]"),
        (b"\0\0\2", [False, True, False], r"got \[0\] in rows \[0\]"),
        (b"\0\1\2", [False, True, True], r"got \[0, 1, 2\] in rows \[0, 1, 2\]"),
    ],
)
def test_first_elsewhere_is_refused_with_the_rows(step_types: bytes, expected: list[bool], got: str) -> None:
    with pytest.raises(InvalidMessageError, match=f"expected FIRST at the start of a lease and after LAST.*{got}"):
        check_first(step_types, np.array(expected))


def config(spec: EnvironmentSpec, num_slots: int = 1000) -> FrontendConfig:
    return FrontendConfig(
        number=0,
        address="",
        spec=spec,
        num_slots=num_slots,
        run_name="",
        server_version="",
        grace_s=1.0,
        stall_limit_s=1.0,
    )


def hello(spec: EnvironmentSpec, num_environments: int = 1) -> pb.Hello:
    indices = range(2**32 - num_environments, 2**32)
    return pack_hello(client_id="c" * 128, run_id=1, group=1, environment_indices=indices, spec=spec).hello


def wide(num_arrays: int) -> EnvironmentSpec:
    """With as many observations of as many bounds of their own as there may be."""
    bounds = tuple(map(float, range(1024)))
    arrays = tuple(
        ArraySpec(name=f"/{number}", dtype="float32", shape=(1024,), low=bounds) for number in range(num_arrays)
    )
    return EnvironmentSpec(environment="Wide-v0", observations=arrays, actions=(discrete("action", 2),))


def test_a_hello_may_say_all_that_it_must() -> None:
    """Also the largest spec, the longest name, and the highest indices of as many environments as there are rows."""
    spec = wide(7)
    assert MAX_SPEC_BYTES * 0.8 < spec_to_message(spec).ByteSize() <= MAX_SPEC_BYTES
    check_hello(hello(spec, 1000), config(spec))
    assert hello(spec, 1000).ByteSize() < max_message_bytes(config(spec))


def test_a_spec_that_is_too_large_is_not_read() -> None:
    asked = hello(wide(9))
    asked.spec.observations[0].dtype = pb.DTYPE_INVALID  # would be noticed
    with pytest.raises(InvalidMessageError, match="expected a spec of at most 65536 bytes, got 7"):
        check_hello(asked, config(wide(9)))


def test_unknown_fields_count() -> None:
    asked = hello(wide(1))
    asked.MergeFromString(bytes([0xFA, 0x7F, 0x80, 0x80, 0x10]) + bytes(2**18))  # field 2047, 256 KiB
    with pytest.raises(InvalidMessageError, match="bytes beside the spec, got 26"):
        check_hello(asked, config(wide(1)))


def test_other_versions_are_told_first() -> None:
    asked = hello(wide(9))
    asked.protocol.major = 1
    with pytest.raises(VersionError, match="speaks 1"):
        check_hello(asked, config(wide(9)))


def test_messages_are_as_large_as_grpc_can_be_told() -> None:
    """1,000 environments of 480 x 640 x 3 are more than a C int holds; a lease of some of them is not."""
    image = ArraySpec(name="observation", dtype="uint8", shape=(480, 640, 3), low=(0,), high=(255,))
    spec = EnvironmentSpec(environment="x", observations=(image,), actions=(discrete("action", 2),))
    assert max_message_bytes(config(spec, 10_000)) == 2**31 - 1
    assert max_message_bytes(config(spec, 100)) > 100 * image.row_bytes


def test_long_texts_are_cut() -> None:
    assert text_of(InvalidMessageError("expected 3, got 4")) == "expected 3, got 4"
    cut = text_of(InvalidMessageError("x" * 1_000_000))
    assert len(cut) < 700
    assert cut.endswith("... (1000000 characters)")


def test_of_several_tasks_a_client_may_name_one_or_none() -> None:
    tasks = [replace(wide(1), environment=name) for name in ("a", "b")]
    server = config(join(tasks, "both"))
    assert [spec.environment for spec in server.served] == ["a", "b"]
    assert check_hello(hello(tasks[1], 2), server) == [1, 1]
    asked = hello(tasks[0], 3)
    asked.environments[0].task, asked.environments[2].task = "", "b"
    assert check_hello(asked, server) == [None, 0, 1]
    asked.environments[1].task = "c"
    with pytest.raises(SpecError, match=r"expected tasks out of \['a', 'b'\], got \['c'\]"):
        check_hello(asked, server)
    with pytest.raises(SpecError, match=r"expected one of the environments \['a', 'b'\], got 'Wide-v0'"):
        check_hello(hello(wide(1)), server)
