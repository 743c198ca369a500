"""Specs: what they accept, how they compare, and their JSON form."""

from __future__ import annotations

import dataclasses
import json
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import SpecError
from seedbed.common.specs import MAX_BOUNDS, ArraySpec, EnvironmentSpec, action_mask, discrete

SPEC = EnvironmentSpec(
    environment="ALE/Pong-v5",
    preset="modern",
    frames_per_step=4,
    observations=(ArraySpec(name="observation", dtype="uint8", shape=(84, 84), low=(0,), high=(255,)),),
    actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(17,), kind="discrete"),),
)
BUTTONS = ArraySpec(name="/buttons", dtype="int64", shape=(3,), low=(0,), high=(1, 4, 1), kind="discrete")
FLAGS = ArraySpec(name="/flags", dtype="uint8", shape=(2,), low=(0,), high=(1,), kind="binary", source_dtype="int8")
STICK = ArraySpec(name="/stick", dtype="float32", shape=(2,), low=(-1, 0), high=(2.5,), source_dtype="float64")
MIXED = EnvironmentSpec(
    environment="Mixed-v0",
    observations=(
        ArraySpec(name="/camera", dtype="uint8", shape=(8, 8, 3), low=(0,), high=(255,)),
        action_mask((BUTTONS, FLAGS, STICK), "/action_mask", source_dtype="int8"),
        ArraySpec(name="/speed", dtype="float32", low=(0,)),
    ),
    actions=(BUTTONS, FLAGS, STICK),
)


def with_action(**changes: Any) -> EnvironmentSpec:
    return dataclasses.replace(SPEC, actions=(dataclasses.replace(SPEC.actions[0], **changes),))


def test_sizes() -> None:
    assert SPEC.observations[0].row_bytes == 84 * 84
    assert SPEC.actions[0].row_bytes == 8
    assert ArraySpec(name="x", dtype="float32", shape=(3, 2)).row_bytes == 24
    assert SPEC.num_actions == 18


@pytest.mark.parametrize(
    ("spec", "num_values"),
    [
        (discrete("x", 6), (6,)),
        (discrete("x", 5, start=-3, dtype="int32"), (5,)),
        (ArraySpec(name="x", dtype="int32", low=(0,), high=(0,), kind="discrete"), (1,)),
        (BUTTONS, (2, 5, 2)),
        (FLAGS, (2, 2)),
        (STICK, ()),
        (ArraySpec(name="x", dtype="int64", shape=(2, 2), low=(1,), high=(3,), kind="discrete"), (3, 3, 3, 3)),
        (ArraySpec(name="x", dtype="int64", low=(0,), high=(5,)), ()),
    ],
)
def test_values_of_each_element(spec: ArraySpec, num_values: tuple[int, ...]) -> None:
    assert spec.num_values == num_values
    assert spec.num_mask_entries == sum(num_values)


def test_bounds_of_actions_as_they_travel() -> None:
    assert (STICK.sent_low, STICK.sent_high.tolist()) == (-1, [1, 1])
    assert (BUTTONS.sent_low, BUTTONS.sent_high.tolist()) == (0, [1, 4, 1])
    assert (FLAGS.sent_low, FLAGS.sent_high.tolist()) == (0, [1, 1])
    shifted = discrete("x", 3, start=10)
    assert (shifted.sent_low, shifted.sent_high.tolist()) == (0, 2)


def test_bounds_have_one_form() -> None:
    """So that specs which mean the same are equal, whoever wrote them."""
    listed = ArraySpec(name="x", dtype="float32", shape=(3,), low=(0, 0, 0), high=(1, 1, 1))
    assert listed == ArraySpec(name="x", dtype="float32", shape=(3,), low=(0,), high=(1,))
    assert listed.low == (0.0,)
    assert STICK.lower.tolist() == [-1, 0]
    assert STICK.upper.tolist() == [2.5, 2.5]
    assert STICK.bounded
    assert not MIXED.observations[2].bounded


@pytest.mark.parametrize("actions", [SPEC.actions * 2, (BUTTONS,), (FLAGS,), (STICK,)])
def test_num_actions_needs_one_discrete_action(actions: tuple[ArraySpec, ...]) -> None:
    actions = tuple(dataclasses.replace(spec, name=str(number)) for number, spec in enumerate(actions))
    with pytest.raises(SpecError, match="expected one discrete action"):
        _ = dataclasses.replace(SPEC, actions=actions).num_actions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float64"}, "'x': expected a dtype out of uint8, int32, int64, float32, got 'float64'"),
        ({"shape": (84, 0)}, r"'x': expected dimensions of at least 1, got shape \(84, 0\)"),
        ({"shape": (2.5,)}, r"expected dimensions of at least 1, got shape \(2.5,\)"),
        ({"shape": (2**32 - 1,) * 33}, "expected at most 32 dimensions, got 33"),
        ({"kind": "colour"}, "expected one of box, discrete, binary, got 'colour'"),
        ({"role": "reward"}, "expected one of value, action_mask, got 'reward'"),
        ({"source_dtype": "object"}, "expected a source dtype out of bool, .*float64, got 'object'"),
        ({"shape": (3,), "low": (0, 1)}, "expected 1 or 3 numbers as low, got 2"),
        ({"shape": (3,), "high": ()}, "expected 1 or 3 numbers as high, got 0"),
        ({"low": (math.nan,)}, "expected numbers as low, got NaN"),
        ({"low": (1,), "high": (0,)}, r"expected low <= high, got int64\[\] in \[1, 0\]"),
        ({"shape": (2,), "low": (0, 1), "high": (0, 0)}, "expected low <= high"),
        ({"low": (math.inf,)}, "expected low <= high"),
        ({"high": (-math.inf,)}, "expected low <= high"),
        ({"shape": (MAX_BOUNDS + 1,), "low": range(MAX_BOUNDS + 1)}, "expected at most 1024 numbers as low, got 1025"),
        ({"kind": "discrete"}, "expected integers with finite bounds where values are discrete"),
        ({"kind": "discrete", "low": (0,), "high": (2.5,)}, "expected integers with finite bounds"),
        ({"kind": "discrete", "low": (0,), "high": (2,), "dtype": "float32"}, "expected integers with finite bounds"),
        ({"kind": "discrete", "low": (0,), "high": (256,), "dtype": "uint8"}, "expected bounds from 0 to 255"),
        ({"kind": "discrete", "low": (-(2**60),), "high": (0,)}, f"expected bounds from -{2**53} to {2**53}"),
        ({"kind": "binary", "low": (0,), "high": (2,), "dtype": "uint8"}, "expected uint8 with bounds 0 and 1 where"),
        ({"kind": "binary", "low": (0,), "high": (1,)}, "expected uint8 with bounds 0 and 1 where values are binary"),
    ],
)
def test_impossible_arrays_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ArraySpec(**{"name": "x", "dtype": "int64", **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": ()}, "at least one observation"),
        ({"actions": ()}, "at least one observation and one action"),
        ({"frames_per_step": 0}, "frames_per_step of at least 1, got 0"),
        ({"observations": SPEC.observations * 2}, r"expected each of the observations once, got \['observation'"),
        ({"actions": SPEC.actions * 2}, r"expected each of the actions once, got \['action'"),
        (
            {"actions": (ArraySpec(name="a", dtype="int64", low=(0,), high=(5,)),)},
            r"action 'a': expected box actions to travel as float32, got int64\[\] in \[0, 5\]",
        ),
        (
            {"actions": (ArraySpec(name="a", dtype="float32", shape=(2,), low=(0,), high=(1, math.inf)),)},
            "action 'a': expected finite bounds that differ",
        ),
        (
            {"actions": (ArraySpec(name="a", dtype="float32", shape=(2,), low=(0, 1), high=(1,)),)},
            "action 'a': expected finite bounds that differ",
        ),
        ({"actions": (dataclasses.replace(FLAGS, role="action_mask"),)}, "expected an action mask among the observa"),
        ({"observations": (action_mask(SPEC.actions),)}, "at least one observation"),
        (
            {"observations": (*SPEC.observations, action_mask(SPEC.actions), action_mask(SPEC.actions, "b"))},
            r"expected at most one action mask, .* got \['action_mask', 'b'\]",
        ),
        (
            {"observations": (*SPEC.observations, action_mask((BUTTONS,)))},
            r"expected a binary uint8\[18\] as action mask, got binary uint8\[9\] in \[0, 1\] as action mask",
        ),
        (
            {"observations": (*SPEC.observations, action_mask(SPEC.actions)), "actions": (STICK,)},
            "expected at most one action mask, for discrete actions",
        ),
    ],
)
def test_impossible_environments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(SPEC, **changes)


def test_masks_are_found_and_not_shown() -> None:
    assert MIXED.mask_position == 1
    assert MIXED.num_mask_entries == 2 + 5 + 2 + 2 + 2
    assert MIXED.observations[1].shape == (13,)
    assert [spec.name for spec in MIXED.shown] == ["/camera", "/speed"]
    assert SPEC.mask_position is None
    assert SPEC.shown == SPEC.observations
    assert dataclasses.replace(MIXED, observations=SPEC.observations, actions=(STICK,)).num_mask_entries == 0


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_specs_of_strangers_cost_nothing(kind: Any) -> None:
    """A shape is a claim: nothing as large as that is made, compared or counted element by element."""
    tracemalloc.start()
    dtype = "float32" if kind == "box" else "int64"
    huge = ArraySpec(name="x", dtype=dtype, shape=(2**32 - 1,) * 32, low=(0,), high=(6,), kind=kind)
    other = EnvironmentSpec(environment="ALE/Pong-v5", observations=(huge,), actions=(huge,))
    assert SPEC.differences(other)
    assert other.differences(dataclasses.replace(other, actions=(dataclasses.replace(huge, high=(5,)),)))
    assert other.num_mask_entries == (0 if kind == "box" else 7 * (2**32 - 1) ** 32)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_equal_specs_do_not_differ() -> None:
    assert SPEC.differences(dataclasses.replace(SPEC)) == []
    assert MIXED.differences(dataclasses.replace(MIXED)) == []


@pytest.mark.parametrize(
    ("other", "differences"),
    [
        (dataclasses.replace(SPEC, preset="paper"), ["preset: 'modern' here, 'paper' there"]),
        (dataclasses.replace(SPEC, frames_per_step=1), ["frames_per_step: 4 here, 1 there"]),
        (
            with_action(high=(5,)),
            ["actions['action']: discrete int64[] in [0, 17] here, discrete int64[] in [0, 5] there"],
        ),
        (with_action(dtype="int32"), ["actions['action']: discrete int64[] in [0, 17] here, discrete int32[] in "]),
        (with_action(source_dtype="int32"), ["discrete int64[] in [0, 17] (of int32) there"]),
        (with_action(name="button"), ["actions: ['action'] here, ['button'] there"]),
        (
            dataclasses.replace(SPEC, environment="ALE/Breakout-v5", observations=SPEC.observations[:1] * 1),
            ["environment: 'ALE/Pong-v5' here, 'ALE/Breakout-v5' there"],
        ),
    ],
    ids=str,
)
def test_differences_say_what_is_here_and_what_is_there(other: Any, differences: list[str]) -> None:
    found = SPEC.differences(other)
    assert len(found) == len(differences)
    assert all(ours in theirs for ours, theirs in zip(differences, found, strict=True)), found
    assert other != SPEC


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        ({"low": (0.1,)}, {"low": (float(np.float32(0.1)),)}, "[0.1, inf] here, [0.10000000149011612, inf] there"),
        ({"low": (0, 1, 5)}, {"low": (0, 2, 5)}, "[0, inf], [1, inf], [5, inf] here, float32[3] in [0, inf], [2, inf]"),
        (
            {"low": (*range(9), 20), "shape": (10,)},
            {"low": (*range(8), 9, 20)},
            "within [0, inf], element 8 in [8.0, inf] here, [9.0, inf] there",
        ),
        ({"kind": "discrete", "low": (0,), "high": (1,), "dtype": "uint8"}, {"kind": "binary"}, "discrete uint8"),
    ],
)
def test_a_difference_can_be_seen(ours: dict[str, Any], theirs: dict[str, Any], difference: str) -> None:
    """Also where the least and the greatest bound look alike."""
    here = ArraySpec(**{"name": "x", "dtype": "float32", "shape": (3,), **ours})
    text = here.difference(dataclasses.replace(here, **theirs))
    assert difference in text
    assert text.partition(" here, ")[0] != text.partition(" here, ")[2].removesuffix(" there")


def test_order_of_arrays_is_part_of_the_contract() -> None:
    second = ArraySpec(name="speed", dtype="float32")
    one = dataclasses.replace(SPEC, observations=(*SPEC.observations, second))
    other = dataclasses.replace(SPEC, observations=(second, *SPEC.observations))
    assert one.differences(other) == ["observations: ['observation', 'speed'] here, ['speed', 'observation'] there"]


@pytest.mark.parametrize("spec", [SPEC, MIXED], ids=str)
def test_json_round_trip(spec: EnvironmentSpec) -> None:
    assert EnvironmentSpec.from_json(spec.to_json()) == spec
    assert EnvironmentSpec.from_json(json.dumps(spec.to_json(), allow_nan=False)) == spec


def test_json_has_null_for_infinity() -> None:
    speed = MIXED.to_json()["observations"][2]
    assert (speed["shape"], speed["low"], speed["high"]) == ([], [0.0], [None])
    assert MIXED.to_json()["actions"][2] == {
        "name": "/stick",
        "dtype": "float32",
        "shape": [2],
        "low": [-1.0, 0.0],
        "high": [2.5],
        "kind": "box",
        "role": "value",
        "source_dtype": "float64",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        json.dumps({**SPEC.to_json(), "colour": 1}),
        json.dumps({**SPEC.to_json(), "actions": [{"name": "a"}]}),
        json.dumps({**SPEC.to_json(), "actions": 3}),
        json.dumps({**SPEC.to_json(), "actions": [{**SPEC.actions[0].to_json(), "low": ["none"]}]}),
        json.dumps({**SPEC.to_json(), "actions": [{**SPEC.actions[0].to_json(), "low": 0}]}),
        json.dumps({**SPEC.to_json(), "actions": [{**SPEC.actions[0].to_json(), "shape": ["3"]}]}),
        json.dumps({**SPEC.to_json(), "actions": [{**SPEC.actions[0].to_json(), "minimum": 0}]}),
    ],
)
def test_bad_json_is_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError):
        EnvironmentSpec.from_json(text)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        ((0,), (1, 3), "[0, 1], [0, 3]"),
        ((-4.8, -3.4028234663852886e38), (4.8, 3.4028234663852886e38), "[-4.8, 4.8], [-inf, inf]"),
        ((0,), (2_000_000,), "[0, 2000000]"),
        ((0,), tuple(range(1, 10)), "bounds of their own within [0, 9]"),
    ],
)
def test_bounds_as_people_read_them(low: tuple[float, ...], high: tuple[float, ...], shown: str) -> None:
    size = max(len(low), len(high))
    spec = ArraySpec(name="a", dtype="float32", shape=(size,), low=low, high=high)
    assert str(spec) == f"float32[{size}] in {shown}"
