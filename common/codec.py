"""Arrays and specs -> messages, and specs back. Packing trusts its caller, which is our own code.

Shapes: E rows of one lease.
"""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.common.errors import SpecError, UnavailableError, VersionError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, Kind, Role
from seedbed.common.timestep import (
    DISCOUNT_DTYPE,
    REWARD_DTYPE,
    STEP_TYPE_DTYPE,
    Array,
    Timesteps,
)
from seedbed.proto import seedbed_pb2 as pb

PROTOCOL_MAJOR = 2
PROTOCOL_MINOR = 1

_DTYPE_CODES = {
    "uint8": pb.DTYPE_UINT8,
    "int32": pb.DTYPE_INT32,
    "int64": pb.DTYPE_INT64,
    "float32": pb.DTYPE_FLOAT32,
}
_DTYPE_NAMES = {code: name for name, code in _DTYPE_CODES.items()}
_KIND_CODES: dict[Kind, pb.Kind] = {
    "box": pb.KIND_BOX,
    "discrete": pb.KIND_DISCRETE,
    "binary": pb.KIND_BINARY,
}
_KIND_NAMES = {code: name for name, code in _KIND_CODES.items()}
_ROLE_CODES: dict[Role, pb.Role] = {"value": pb.ROLE_VALUE, "action_mask": pb.ROLE_ACTION_MASK}
_ROLE_NAMES = {code: name for name, code in _ROLE_CODES.items()}


def protocol_version() -> pb.ProtocolVersion:
    """The version this program speaks."""
    return pb.ProtocolVersion(major=PROTOCOL_MAJOR, minor=PROTOCOL_MINOR)


def check_protocol(theirs: pb.ProtocolVersion, peer: str) -> None:
    """Refuses a peer that speaks another major version.

    Args:
        theirs: the version it sent.
        peer: what to call it in the message, e.g. "client".

    Raises:
        VersionError: names both versions and which side is older.
    """
    if theirs.major == PROTOCOL_MAJOR:
        return
    older = f"the {peer}" if theirs.major < PROTOCOL_MAJOR else "this side"
    raise VersionError(
        f"expected protocol {PROTOCOL_MAJOR}.x, the {peer} speaks {theirs.major}.{theirs.minor}: upgrade {older}"
    )


def spec_to_message(spec: EnvironmentSpec) -> pb.EnvironmentSpec:
    """The wire form of a spec."""
    return pb.EnvironmentSpec(
        environment=spec.environment,
        preset=spec.preset,
        observations=[_array_spec_to_message(array) for array in spec.observations],
        actions=[_array_spec_to_message(array) for array in spec.actions],
        frames_per_step=spec.frames_per_step,
    )


def spec_from_message(message: pb.EnvironmentSpec) -> EnvironmentSpec:
    """Reads the wire form.

    Raises:
        SpecError: it is not a valid spec.
    """
    return EnvironmentSpec(
        environment=message.environment,
        preset=message.preset,
        observations=tuple(_array_spec_from_message(array) for array in message.observations),
        actions=tuple(_array_spec_from_message(array) for array in message.actions),
        frames_per_step=message.frames_per_step,
    )


def described_specs(reply: pb.DescribeResponse) -> tuple[EnvironmentSpec, ...]:
    """What a server serves, a spec for each of its tasks.

    Raises:
        UnavailableError: it does not know yet.
        SpecError: one of them is not valid.
    """
    if not reply.specs:
        raise UnavailableError("the server has no environment yet and takes that of the first client with --env")
    return tuple(map(spec_from_message, reply.specs))


def pack_hello(
    *,
    client_id: str,
    run_id: int,
    group: int,
    environment_indices: Sequence[int],
    spec: EnvironmentSpec,
    assign_indices: bool = False,
    names_task: bool = True,
) -> pb.ClientMessage:
    """The first message of a stream; see the protocol for the meaning of each part."""
    task = spec.environment if names_task else ""
    environments = [pb.Environment(task=task, index=index) for index in environment_indices]
    hello = pb.Hello(
        protocol=protocol_version(),
        client_id=client_id,
        run_id=run_id,
        group=group,
        environments=environments,
        spec=spec_to_message(spec),
        assign_indices=assign_indices,
    )
    return pb.ClientMessage(hello=hello)


def pack_steps(seq: int, rows: Timesteps) -> pb.ClientMessage:
    """One timestep of each row as a message."""
    message = pb.ClientMessage()
    steps = message.steps  # filled in place: a message given to a constructor is copied, observations and all
    steps.seq = seq
    steps.step_type = rows.step_type.astype(STEP_TYPE_DTYPE, copy=False).tobytes()
    steps.reward = rows.reward.astype(REWARD_DTYPE, copy=False).tobytes()
    steps.discount = rows.discount.astype(DISCOUNT_DTYPE, copy=False).tobytes()
    steps.observations.extend([array.tobytes() for array in rows.observations])
    for end in rows.episode_ends:
        steps.episode_ends.add(
            row=end.row, episode_return=end.episode_return, steps=end.steps, frames=end.frames, info=end.info
        )
    return message


def pack_actions(seq: int, actions: Sequence[Array], policy_version: int) -> pb.ServerMessage:
    """The answer to Steps `seq`: one array `[E, ...]` for each action spec."""
    message = pb.ServerMessage()
    part = message.actions  # filled in place: a message given to a constructor is copied
    part.seq = seq
    part.actions.extend([array.tobytes() for array in actions])
    part.policy_version = policy_version
    return message


def _array_spec_to_message(spec: ArraySpec) -> pb.ArraySpec:
    return pb.ArraySpec(
        name=spec.name,
        dtype=_DTYPE_CODES[spec.dtype],
        shape=spec.shape,
        low=spec.low,
        high=spec.high,
        role=_ROLE_CODES[spec.role],
        kind=_KIND_CODES[spec.kind],
        source_dtype=spec.source_dtype,
        median=spec.median,
    )


def _array_spec_from_message(message: pb.ArraySpec) -> ArraySpec:
    for what, code, names in (
        ("dtype", message.dtype, _DTYPE_NAMES),
        ("role", message.role, _ROLE_NAMES),
        ("kind", message.kind, _KIND_NAMES),
    ):
        if code not in names:
            raise SpecError(f"array {message.name!r}: expected a known {what}, got code {code}")
    return ArraySpec(
        name=message.name,
        dtype=_DTYPE_NAMES[message.dtype],
        shape=tuple(message.shape),
        low=tuple(message.low),
        high=tuple(message.high),
        kind=_KIND_NAMES[message.kind],
        role=_ROLE_NAMES[message.role],
        source_dtype=message.source_dtype,
        median=message.median if message.HasField("median") else None,
    )
