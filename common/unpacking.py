"""Message bytes -> arrays. Trusts nobody: every length and every value that could poison a batch is checked against the
agreed spec, and the error names what was expected and what came.

Shapes: E rows of one lease.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import InvalidMessageError
from seedbed.common.info_numbers import MAX_NUMBERS, is_name, is_number
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import (
    DISCOUNT_DTYPE,
    LARGEST,
    MAX_COUNT,
    REWARD_DTYPE,
    STEP_TYPE_DTYPE,
    Array,
    EpisodeEnd,
    StepType,
    Timesteps,
    is_usable,
)
from seedbed.proto import seedbed_pb2 as pb

_MAX_SHOWN = 10  # values in the text of an error
_MAX_SHOWN_LETTERS = 80
_FIRST, _LAST = int(StepType.FIRST), int(StepType.LAST)
_ONE = np.array(1, DISCOUNT_DTYPE).tobytes()
_ZEROS = tuple(np.array(zero, REWARD_DTYPE).tobytes() for zero in (0.0, -0.0))
_FLOAT_BYTES = len(_ONE)


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
            (array, array.numpy_dtype, num_rows * array.row_bytes, (num_rows, *array.shape), _limits(array))
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
        if rewards != self._no_reward or discounts != self._going_on:
            _check_first(step_types, rewards, discounts)
        ends = _unpack_ends(message.episode_ends, step_type, discount) if message.episode_ends else ()
        return Timesteps(step_type, reward, discount, self._read_observations(message.observations), ends)

    def _read_observations(self, parts: Sequence[bytes]) -> tuple[Array, ...]:
        _check_count("observations", parts, len(self._layout))
        arrays = []
        for part, (spec, dtype, num_bytes, shape, limits) in zip(parts, self._layout, strict=True):
            if len(part) != num_bytes:
                _refuse_length("observations", spec, part, self._num_rows)
            array = np.frombuffer(part, dtype).reshape(shape)
            if dtype.kind == "f":
                _require_finite(f"observation {spec.name!r}", array)
            elif limits is not None:
                _require_values(spec, part, array, *limits)
            arrays.append(array)
        return tuple(arrays)


class ActionsReader:
    """Reads and checks the Actions of one lease."""

    def __init__(self, spec: EnvironmentSpec, num_rows: int) -> None:
        """Prepares for messages of a spec.

        Args:
            spec: what the lease agreed on.
            num_rows: E of the lease.
        """
        self._num_rows = num_rows
        self._layout = [(array, array.sent_low, array.sent_high) for array in spec.actions]

    def read(self, message: pb.Actions) -> tuple[Array, ...]:
        """One read-only array `[E, ...]` for each action spec, as they travel.

        Raises:
            InvalidMessageError: a length or a value is not what the spec says.
        """
        _check_count("actions", message.actions, len(self._layout))
        arrays: list[Array] = []
        for part, (spec, low, high) in zip(message.actions, self._layout, strict=True):
            if len(part) != self._num_rows * spec.row_bytes:
                _refuse_length("actions", spec, part, self._num_rows)
            array: NDArray[Any] = np.frombuffer(part, spec.numpy_dtype).reshape(self._num_rows, *spec.shape)
            right = (array >= low) & (array <= high)  # NaN is in no range
            if not right.all():
                wrong = f"{array[~right][:_MAX_SHOWN].tolist()} in {_shown_rows(~right)}"
                raise InvalidMessageError(f"actions[{spec.name!r}]: expected {spec} as it travels, got {wrong}")
            arrays.append(array)
        return tuple(arrays)


def _vector(name: str, data: bytes, dtype: np.dtype[Any], num_rows: int) -> NDArray[Any]:
    if len(data) != num_rows * dtype.itemsize:
        raise InvalidMessageError(
            f"{name}: expected {num_rows * dtype.itemsize} bytes ({dtype.name}[{num_rows}]), got {len(data)}"
        )
    return np.frombuffer(data, dtype)


def _check_count(kind: str, data: Sequence[bytes], num_arrays: int) -> None:
    if len(data) != num_arrays:
        raise InvalidMessageError(f"{kind}: expected {num_arrays} arrays, got {len(data)}")


def _refuse_length(kind: str, spec: ArraySpec, part: bytes, num_rows: int) -> NoReturn:
    expected = f"{num_rows * spec.row_bytes} bytes ({num_rows} rows of {spec})"
    raise InvalidMessageError(f"{kind}[{spec.name!r}]: expected {expected}, got {len(part)}")


def _check_first(step_types: bytes, rewards: bytes, discounts: bytes) -> None:
    """Reward 0 and discount 1 where FIRST. Few rows are, so these few bytes are looked at one by one."""
    row = step_types.find(_FIRST)
    while row >= 0:
        at = slice(_FLOAT_BYTES * row, _FLOAT_BYTES * (row + 1))
        if discounts[at] != _ONE:
            _refuse_first("discount", 1, discounts[at], row)
        if rewards[at] not in _ZEROS:
            _refuse_first("reward", 0, rewards[at], row)
        row = step_types.find(_FIRST, row + 1)


def _refuse_first(name: str, expected: int, got: bytes, row: int) -> NoReturn:
    """Here a client of another byte order shows itself: in its first message, and not by rewards of 1e-41 later."""
    hint = "; is it big-endian? Arrays are little-endian" if got[::-1] == _ONE else ""
    value = np.frombuffer(got, REWARD_DTYPE).item()
    raise InvalidMessageError(f"{name}: expected {expected} where step_type is FIRST, got {value} in row {row}{hint}")


def _limits(spec: ArraySpec) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Least and greatest values of observations that are indices, action masks among them: others are in no table."""
    return None if spec.kind == "box" else (spec.lower, spec.upper)


def _require_values(spec: ArraySpec, part: bytes, array: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> None:
    if spec.kind == "binary" and not part.translate(None, b"\0\1"):  # numpy would take ten times as long
        return
    right = (array >= low) & (array <= high)
    if not right.all():
        raise InvalidMessageError(
            f"observation {spec.name!r}: expected {spec}, "
            f"got {array[~right][:_MAX_SHOWN].tolist()} in {_shown_rows(~right)}"
        )


def _shown_rows(wrong: NDArray[np.bool_]) -> str:
    """Rows with anything wrong in them, of an array `[E, ...]`."""
    return f"rows {np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1)).tolist()}"


def _unpack_ends(
    messages: Sequence[pb.EpisodeEnd], step_type: NDArray[Any], discount: NDArray[Any]
) -> tuple[EpisodeEnd, ...]:
    """At most one for each row that is LAST: else one message could fill the statistics of a whole run."""
    if len(messages) > len(step_type):
        raise InvalidMessageError(f"episode_ends: expected at most {len(step_type)}, got {len(messages)}")
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
        if message.info:
            _check_info(message.info)
    return tuple(
        EpisodeEnd(end.row, end.episode_return, end.steps, end.frames, bool(discount[end.row] > 0), dict(end.info))
        for end in messages
    )


def _check_info(info: Mapping[str, float]) -> None:
    """They become names of metrics, so none gets through that a file, a label or a page could stumble over."""
    if len(info) > MAX_NUMBERS:
        raise InvalidMessageError(f"episode_ends: expected at most {MAX_NUMBERS} numbers in info, got {len(info)}")
    for name, value in info.items():
        if not is_name(name):
            raise InvalidMessageError(
                "episode_ends: expected names in info of 1 to 64 letters, digits and _./-, got "
                f"{name[:_MAX_SHOWN_LETTERS]!r}"
            )
        if not is_number(value):
            raise InvalidMessageError(f"episode_ends: expected {name!r} in info to be finite as float32, got {value}")


def _require_finite(name: str, array: NDArray[Any]) -> None:
    if not is_usable(array):
        right = np.abs(array) <= LARGEST
        wrong = f"{array[~right][:_MAX_SHOWN].tolist()} in {_shown_rows(~right)}"
        raise InvalidMessageError(f"{name}: expected finite numbers of at most {LARGEST:g}, got {wrong}")
