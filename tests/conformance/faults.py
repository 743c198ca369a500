"""Messages that break the contract, each in one way: what is wrong, and how a server must refuse it.

A fault changes a message that was right and returns words that the refusal must contain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.proto import seedbed_pb2 as pb

Words = Sequence[str]

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to be wrong.

    Attributes:
        apply: changes a Hello or a Steps; returns words of the refusal, or None if the spec has no room for the fault.
        status: of the refusal.
    """

    apply: Callable[[Any, EnvironmentSpec], Words | None]
    status: grpc.StatusCode = INVALID

    def __str__(self) -> str:
        return self.apply.__name__.strip("_")


def _other_major(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    ours = f"{hello.protocol.major}."
    hello.protocol.major += 1
    return ours, f"{hello.protocol.major}.{hello.protocol.minor}"


def _no_protocol(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    ours = f"{hello.protocol.major}."
    hello.ClearField("protocol")
    return ours, "0.0"


def _other_environment(hello: pb.Hello, spec: EnvironmentSpec) -> Words:
    hello.spec.environment = "Other-v0"
    return spec.environment, "Other-v0"


def _other_preset(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.spec.preset += "elsewhere"
    return "preset", hello.spec.preset


def _other_shape(hello: pb.Hello, spec: EnvironmentSpec) -> Words:
    hello.spec.observations[0].shape.append(77)
    return str(list(spec.observations[0].shape)), "77"


def _other_dtype(hello: pb.Hello, spec: EnvironmentSpec) -> Words:
    ours = spec.observations[0].dtype
    hello.spec.observations[0].dtype = pb.DTYPE_INT32 if ours != "int32" else pb.DTYPE_UINT8
    return ours, "int32" if ours != "int32" else "uint8"


def _other_number_of_actions(hello: pb.Hello, spec: EnvironmentSpec) -> Words:
    hello.spec.actions[0].high[0] += 3
    if spec.mask_position is not None:  # which is too short for them then
        return (f"{spec.num_mask_entries}", f"{spec.num_mask_entries + 3}")
    return f"{spec.actions[0].high[0]:g}", f"{hello.spec.actions[0].high[0]:g}"


def _unknown_dtype(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.spec.observations[0].dtype = 99  # type: ignore[assignment]
    return ("99",)


def _unknown_role(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.spec.observations[-1].role = 99  # type: ignore[assignment]
    return "role", "99"


def _unknown_kind(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.spec.actions[-1].kind = 99  # type: ignore[assignment]
    return "kind", "99"


def _other_kind(hello: pb.Hello, spec: EnvironmentSpec) -> Words:
    """An integer Box and a MultiDiscrete differ by nothing else."""
    ours = spec.observations[0].kind
    hello.spec.observations[0].kind = pb.KIND_BINARY if ours != "binary" else pb.KIND_BOX
    return ()


def _other_source_dtype(hello: pb.Hello, spec: EnvironmentSpec) -> Words:
    ours = spec.actions[0].source_dtype
    hello.spec.actions[0].source_dtype = "float16" if ours != "float16" else "float64"
    return ("float16" if ours != "float16" else "float64",)


def _bounds_of_another_length(hello: pb.Hello, spec: EnvironmentSpec) -> Words:
    bounds = hello.spec.observations[0].low
    bounds.extend([0.0] * (spec.observations[0].num_elements + 2 - len(bounds)))
    return "low", f"{spec.observations[0].num_elements + 2}"


def _no_bounds(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.spec.actions[0].ClearField("high")
    return "high", "0"


def _bound_that_is_no_number(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.spec.observations[0].high[0] = np.nan
    return "high", "NaN"


def _other_bounds(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.spec.actions[-1].low[0] -= 3
    return ()


def _no_mask(hello: pb.Hello, spec: EnvironmentSpec) -> Words | None:
    if spec.mask_position is None:
        return None
    mask = spec.observations[spec.mask_position].name
    del hello.spec.observations[spec.mask_position]
    return (mask,)


def _huge_spec(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    for number in range(10_000):
        hello.spec.observations.add(name=str(number), dtype=pb.DTYPE_UINT8)
    return "spec", f"{64 * 1024}"


def _huge_tasks(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    for environment in hello.environments:
        environment.task = "x" * 40_000
    return "at most", f"{hello.ByteSize() - hello.spec.ByteSize()}"


def _no_spec(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.ClearField("spec")
    return ()


def _no_client_id(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.client_id = ""
    return ("client_id",)


def _endless_client_id(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.client_id = "x" * 20_000
    return "client_id", "20000"


def _client_id_with_line_breaks(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.client_id = "friend\n12-31 23:59:59 ERROR server: all is lost"
    return "client_id", "friend"


def _endless_array_name(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    """The refusal quotes it, and would be too long for a status."""
    hello.spec.observations[0].name = "\u732b" * 5000
    return ()


def _no_run_id(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.run_id = 0
    return ("run_id",)


def _third_group(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.group = 2
    return ("group",)


def _no_environments(hello: pb.Hello, _: EnvironmentSpec) -> Words:
    hello.ClearField("environments")
    return "expected", "0"


def _unknown_task(hello: pb.Hello, spec: EnvironmentSpec) -> Words:
    hello.environments[-1].task = "os:system"
    return spec.environment, "os:system"


HELLO_FAULTS = (
    *(
        Fault(apply, PRECONDITION)
        for apply in (
            _other_major,
            _no_protocol,
            _other_environment,
            _other_preset,
            _other_shape,
            _other_dtype,
            _other_number_of_actions,
            _unknown_dtype,
            _unknown_role,
            _unknown_kind,
            _other_kind,
            _other_source_dtype,
            _bounds_of_another_length,
            _no_bounds,
            _bound_that_is_no_number,
            _other_bounds,
            _no_mask,
            _no_spec,
            _endless_array_name,
            _unknown_task,
        )
    ),
    *(
        Fault(apply)
        for apply in (
            _no_client_id,
            _endless_client_id,
            _client_id_with_line_breaks,
            _no_run_id,
            _third_group,
            _no_environments,
            _huge_spec,
            _huge_tasks,
        )
    ),
)


def _seq_gap(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.seq += 1
    return f"{steps.seq - 1}", f"{steps.seq}"


def _seq_zero(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    expected, steps.seq = steps.seq, 0
    return f"{expected}", "0"


def _seq_long_gone(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    expected = steps.seq
    steps.seq -= 2
    return f"{expected}", f"{steps.seq}"


def _seq_huge(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.seq = 2**64 - 1
    return (f"{steps.seq}",)


def _short_step_type(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.step_type = steps.step_type[:-1]
    return "step_type", f"{len(steps.step_type)}"


def _short_reward(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.reward = steps.reward[:-1]
    return "reward", f"{len(steps.reward)}"


def _long_discount(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.discount += b"\0"
    return "discount", f"{len(steps.discount)}"


def _short_observation(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.observations[0] = steps.observations[0][:-1]
    return "observation", f"{len(steps.observations[0])}"


def _one_row_too_many(steps: pb.Steps, spec: EnvironmentSpec) -> Words:
    steps.observations[0] += steps.observations[0][: spec.observations[0].row_bytes]
    return "observation", f"{len(steps.observations[0])}"


def _no_observation(steps: pb.Steps, spec: EnvironmentSpec) -> Words:
    steps.ClearField("observations")
    return "observations", f"{len(spec.observations)}", "0"


def _one_observation_too_many(steps: pb.Steps, spec: EnvironmentSpec) -> Words:
    steps.observations.append(b"")
    return "observations", f"{len(spec.observations) + 1}"


def _nothing_but_seq(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    seq = steps.seq
    steps.Clear()
    steps.seq = seq
    return ()


def _unknown_step_type(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.step_type = b"\3" + steps.step_type[1:]
    return "step_type", "3"


def _reward_nan(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.reward = _with_first(steps.reward, np.nan)
    return ("reward",)


def _reward_infinite(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.reward = _with_first(steps.reward, -np.inf)
    return ("reward",)


def _discount_above_one(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.discount = _with_first(steps.discount, 1.5)
    return "discount", "1.5"


def _discount_negative(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.discount = _with_first(steps.discount, -0.5)
    return "discount", "-0.5"


def _reward_absurd(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.reward = _with_first(steps.reward, 3e38)
    return "reward", "at most 1e+18", "3"


def _discount_nan(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.discount = _with_first(steps.discount, np.nan)
    return ("discount",)


def _observation_nan(steps: pb.Steps, spec: EnvironmentSpec) -> Words | None:
    return _spoil(steps, spec, [array.dtype == "float32" for array in spec.observations], np.nan)


def _observation_absurd(steps: pb.Steps, spec: EnvironmentSpec) -> Words | None:
    return _spoil(steps, spec, [array.dtype == "float32" for array in spec.observations], -3e38)


def _observation_out_of_range(steps: pb.Steps, spec: EnvironmentSpec) -> Words | None:
    """Where values are indices into tables."""
    return _spoil(steps, spec, [array.kind == "discrete" for array in spec.observations], -1)


def _flag_of_two(steps: pb.Steps, spec: EnvironmentSpec) -> Words | None:
    flags = [array.kind == "binary" and array.role == "value" for array in spec.observations]
    return _spoil(steps, spec, flags, 2)


def _mask_of_two(steps: pb.Steps, spec: EnvironmentSpec) -> Words | None:
    return _spoil(steps, spec, [array.role == "action_mask" for array in spec.observations], 2)


def _arrays_in_another_order(steps: pb.Steps, spec: EnvironmentSpec) -> Words | None:
    if len({array.row_bytes for array in spec.observations}) < 2:
        return None
    parts = sorted(steps.observations, key=len)
    del steps.observations[:]
    steps.observations.extend(parts if len(parts[0]) != spec.observations[0].row_bytes else parts[::-1])
    return ("observations",)


def _more_ends_than_rows(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    for _number in range(50_000):
        steps.episode_ends.add()
    return "episode_ends", "50000"


def _episode_end_of_no_row(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.episode_ends.add(row=1000)
    return "episode_ends", "1000"


def _episode_end_of_a_running_episode(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.episode_ends.add(row=0)
    return "episode_ends", "LAST"


def _two_ends_of_one_episode(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    _end(steps)
    _end(steps)
    return "episode_ends", "[0, 0]"


def _episode_return_nan(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    _end(steps, episode_return=np.nan)
    return "episode_ends", "nan"


def _episode_return_huge(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    _end(steps, episode_return=1e17)
    return "episode_ends", "1e+17"


def _episode_steps_huge(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    _end(steps, steps=2**63)
    return "episode_ends", f"{2**63}"


def _episode_frames_huge(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    _end(steps, frames=2**64 - 1)
    return "episode_ends", f"{2**64 - 1}"


def _more_numbers_than_fit(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    _end(steps, info={f"number{i}": 0.0 for i in range(33)})
    return "info", "32", "33"


def _number_of_no_name(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    _end(steps, info={"": 1.0})
    return "info", "1 to 64 letters"


def _number_with_a_name_of_script(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    _end(steps, info={"<script>": 1.0})
    return "info", "<script>"


def _number_of_a_name_too_long(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    _end(steps, info={"n" * 65: 1.0})
    return "info", "1 to 64 letters"


def _number_nan(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    _end(steps, info={"won": np.nan})
    return "info", "'won'", "nan"


def _number_huge(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    _end(steps, info={"won": 1e39})
    return "info", "'won'", "1e+39"


def _first_within_an_episode(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.step_type = bytes(len(steps.step_type))
    return ("step_type",)


STEPS_FAULTS = (
    *(Fault(apply, PRECONDITION) for apply in (_seq_gap, _seq_zero, _seq_long_gone, _seq_huge)),
    *(
        Fault(apply)
        for apply in (
            _short_step_type,
            _short_reward,
            _long_discount,
            _short_observation,
            _one_row_too_many,
            _no_observation,
            _one_observation_too_many,
            _nothing_but_seq,
            _unknown_step_type,
            _reward_nan,
            _reward_absurd,
            _reward_infinite,
            _discount_above_one,
            _discount_negative,
            _discount_nan,
            _observation_nan,
            _observation_absurd,
            _observation_out_of_range,
            _flag_of_two,
            _mask_of_two,
            _arrays_in_another_order,
            _more_ends_than_rows,
            _episode_end_of_no_row,
            _episode_end_of_a_running_episode,
            _two_ends_of_one_episode,
            _episode_return_nan,
            _episode_return_huge,
            _episode_steps_huge,
            _episode_frames_huge,
            _more_numbers_than_fit,
            _number_of_no_name,
            _number_with_a_name_of_script,
            _number_of_a_name_too_long,
            _number_nan,
            _number_huge,
            _first_within_an_episode,
        )
    ),
)


def _first_with_a_reward(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.reward = _with_first(steps.reward, 1)
    return "reward", "FIRST"


def _first_with_a_discount(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    steps.discount = _with_first(steps.discount, 0.99)
    return "discount", "FIRST", "0.99"


def _big_endian(steps: pb.Steps, _: EnvironmentSpec) -> Words:
    """Whose discounts of 1 are 4.6e-41 here: seen in the very first message."""
    steps.discount = np.frombuffer(steps.discount, "<f4").astype(">f4").tobytes()
    return "discount", "FIRST", "endian"


FIRST_FAULTS = (Fault(_first_with_a_reward), Fault(_first_with_a_discount), Fault(_big_endian))
"""Of the first Steps of a lease, whose rows are all FIRST."""


def _spoil(steps: pb.Steps, spec: EnvironmentSpec, chosen: Sequence[bool], value: float) -> Words | None:
    """Another first value in the first array of those chosen, if there is one."""
    if True not in chosen:
        return None
    number = chosen.index(True)
    array = np.frombuffer(steps.observations[number], spec.observations[number].numpy_dtype).copy()
    array[0] = value
    steps.observations[number] = array.tobytes()
    return "observation", spec.observations[number].name


def _end(message: pb.Steps, **fields: Any) -> None:
    """Ends the episode of row 0, with these fields."""
    message.step_type = bytes([StepType.LAST]) + message.step_type[1:]
    message.episode_ends.add(row=0, **fields)


def _with_first(data: bytes, value: float) -> bytes:
    array = np.frombuffer(data, "<f4").copy()
    array[0] = value
    return array.tobytes()
