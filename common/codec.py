"""Arrays <-> message bytes: the only file in common/ that knows the generated classes.

Packing trusts its caller, which is our own code. Unpacking trusts nobody: every length and every value that could
poison a batch is checked against the agreed spec, and the error names what was expected and what came.

Shapes: E rows of one lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import InvalidMessageError, SpecError, VersionError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, Kind, Role
from seedbed.common.timestep import (
    DISCOUNT_DTYPE,
    MAX_COUNT,
    REWARD_DTYPE,
    STEP_TYPE_DTYPE,
    Array,
    EpisodeEnd,
    StepType,
    Timesteps,
)
from seedbed.proto import seedbed_pb2 as pb

PROTOCOL_MAJOR = 2
PROTOCOL_MINOR = 0

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

_LAST = int(StepType.LAST)


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


def described_spec(reply: pb.DescribeResponse) -> EnvironmentSpec:
    """The only spec that a server serves.

    Raises:
        SpecError: it serves none, or several.
    """
    if len(reply.specs) != 1:
        raise SpecError(f"expected a server with one environment, it describes {len(reply.specs)}")
    return spec_from_message(reply.specs[0])


def pack_hello(
    *,
    client_id: str,
    run_id: int,
    group: int,
    environment_indices: Sequence[int],
    spec: EnvironmentSpec,
    assign_indices: bool = False,
) -> pb.ClientMessage:
    """The first message of a stream; see the protocol for the meaning of each part."""
    environments = [pb.Environment(task=spec.environment, index=index) for index in environment_indices]
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
    steps = pb.Steps(
        seq=seq,
        step_type=rows.step_type.astype(STEP_TYPE_DTYPE, copy=False).tobytes(),
        reward=rows.reward.astype(REWARD_DTYPE, copy=False).tobytes(),
        discount=rows.discount.astype(DISCOUNT_DTYPE, copy=False).tobytes(),
        observations=[array.tobytes() for array in rows.observations],
        episode_ends=[
            pb.EpisodeEnd(row=end.row, episode_return=end.episode_return, steps=end.steps, frames=end.frames)
            for end in rows.episode_ends
        ],
    )
    return pb.ClientMessage(steps=steps)


class StepsReader:
    """Reads and checks the Steps of one lease. What is the same in each of them is worked out once."""

    def __init__(self, spec: EnvironmentSpec, num_rows: int) -> None:
        """Prepares for messages of a spec.

        Args:
            spec: what the lease agreed on.
            num_rows: E of the lease.
        """
        self._num_rows = num_rows
        self._no_reward = bytes(num_rows * REWARD_DTYPE.itemsize)
        self._going_on = np.ones(num_rows, DISCOUNT_DTYPE).tobytes()
        self._layout = [
            (array, array.numpy_dtype, num_rows * array.row_bytes, (num_rows, *array.shape))
            for array in spec.observations
        ]

    def read(self, message: pb.Steps) -> Timesteps:
        """One timestep of each row; the arrays are read-only views of the message's bytes.

        Raises:
            InvalidMessageError: a length, a step type or a value is not what the contract allows.
        """
        step_types, rewards, discounts = message.step_type, message.reward, message.discount
        step_type = _vector("step_type", step_types, STEP_TYPE_DTYPE, self._num_rows)
        reward = _vector("reward", rewards, REWARD_DTYPE, self._num_rows)
        discount = _vector("discount", discounts, DISCOUNT_DTYPE, self._num_rows)
        # Most messages carry the same few bytes here, and comparing bytes costs a tenth of what numpy's checks do.
        if (highest := max(step_types)) > _LAST:
            raise InvalidMessageError(f"step_type: expected 0, 1 or 2, got {highest}")
        if rewards != self._no_reward:
            _require_finite("reward", reward)
        if discounts != self._going_on and not ((discount >= 0) & (discount <= 1)).all():
            raise InvalidMessageError(f"discount: expected values from 0 to 1, got {discount.tolist()}")
        ends = _unpack_ends(message.episode_ends, step_type) if message.episode_ends else ()
        return Timesteps(step_type, reward, discount, self._read_observations(message.observations), ends)

    def _read_observations(self, parts: Sequence[bytes]) -> tuple[Array, ...]:
        _check_count("observations", parts, len(self._layout))
        arrays = []
        for part, (spec, dtype, num_bytes, shape) in zip(parts, self._layout, strict=True):
            if len(part) != num_bytes:
                _refuse_length("observations", spec, part, self._num_rows)
            array = np.frombuffer(part, dtype).reshape(shape)
            if dtype.kind == "f":
                _require_finite(f"observation {spec.name!r}", array)
            arrays.append(array)
        return tuple(arrays)


def pack_actions(seq: int, actions: Sequence[Array], policy_version: int) -> pb.ServerMessage:
    """The answer to Steps `seq`: one array `[E, ...]` for each action spec."""
    message = pb.ServerMessage()
    part = message.actions  # filled in place: a message given to a constructor is copied
    part.seq = seq
    part.actions.extend([array.tobytes() for array in actions])
    part.policy_version = policy_version
    return message


def unpack_actions(message: pb.Actions, spec: EnvironmentSpec, num_rows: int) -> tuple[Array, ...]:
    """Reads the answer: one array `[E, ...]` for each action spec.

    Raises:
        InvalidMessageError: a length or a value is not what the spec says.
    """
    actions = _unpack_arrays("actions", message.actions, spec.actions, num_rows)
    for part, array_spec in zip(actions, spec.actions, strict=True):
        array: NDArray[Any] = part
        if not ((array >= array_spec.sent_low) & (array <= array_spec.sent_high)).all():  # NaN is in no range
            raise InvalidMessageError(
                f"actions[{array_spec.name!r}]: expected {array_spec} as it travels, got {array.tolist()}"
            )
    return actions


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
    )


def _vector(name: str, data: bytes, dtype: np.dtype[Any], num_rows: int) -> NDArray[Any]:
    if len(data) != num_rows * dtype.itemsize:
        raise InvalidMessageError(
            f"{name}: expected {num_rows * dtype.itemsize} bytes ({dtype.name}[{num_rows}]), got {len(data)}"
        )
    return np.frombuffer(data, dtype)


def _unpack_arrays(
    kind: str, data: Sequence[bytes], specs: Sequence[ArraySpec], num_rows: int
) -> tuple[NDArray[Any], ...]:
    _check_count(kind, data, len(specs))
    arrays = []
    for part, spec in zip(data, specs, strict=True):
        if len(part) != num_rows * spec.row_bytes:
            _refuse_length(kind, spec, part, num_rows)
        arrays.append(np.frombuffer(part, spec.numpy_dtype).reshape(num_rows, *spec.shape))
    return tuple(arrays)


def _check_count(kind: str, data: Sequence[bytes], num_arrays: int) -> None:
    if len(data) != num_arrays:
        raise InvalidMessageError(f"{kind}: expected {num_arrays} arrays, got {len(data)}")


def _refuse_length(kind: str, spec: ArraySpec, part: bytes, num_rows: int) -> NoReturn:
    expected = f"{num_rows * spec.row_bytes} bytes ({num_rows} rows of {spec})"
    raise InvalidMessageError(f"{kind}[{spec.name!r}]: expected {expected}, got {len(part)}")


def _unpack_ends(messages: Sequence[pb.EpisodeEnd], step_type: NDArray[Any]) -> tuple[EpisodeEnd, ...]:
    """At most one for each row that is LAST: else one message could fill the statistics of a whole run."""
    rows = [message.row for message in messages]
    if len(set(rows)) != len(rows) or not all(row < len(step_type) and step_type[row] == StepType.LAST for row in rows):
        last = np.flatnonzero(step_type == StepType.LAST).tolist()
        raise InvalidMessageError(f"episode_ends: expected rows out of {last}, which are LAST, once each, got {rows}")
    for message in messages:
        if not abs(message.episode_return) <= MAX_COUNT:
            raise InvalidMessageError(
                f"episode_ends: expected a return from -2^53 to 2^53, got {message.episode_return}"
            )
        if max(message.steps, message.frames) > MAX_COUNT:
            got = f"{message.steps} and {message.frames}"
            raise InvalidMessageError(f"episode_ends: expected at most 2^53 steps and frames, got {got}")
    return tuple(EpisodeEnd(end.row, end.episode_return, end.steps, end.frames) for end in messages)


def _require_finite(name: str, array: NDArray[Any]) -> None:
    if not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
        raise InvalidMessageError(f"{name}: expected finite numbers, got NaN or infinity in rows {rows.tolist()}")
