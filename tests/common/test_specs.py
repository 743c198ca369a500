"""Specs: what they accept, how they compare, and their JSON form."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec

SPEC = EnvironmentSpec(
    environment="ALE/Pong-v5",
    preset="modern",
    frames_per_step=4,
    observations=(ArraySpec(name="observation", dtype="uint8", shape=(84, 84), low=(0,), high=(255,)),),
    actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(17,), kind="discrete"),),
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
        (ArraySpec(name="x", dtype="int64", low=(0,), high=(5,), kind="discrete"), 6),
        (ArraySpec(name="x", dtype="int32", low=(0,), high=(0,), kind="discrete"), 1),
        (ArraySpec(name="x", dtype="int64", low=(1,), high=(5,), kind="discrete"), None),
        (ArraySpec(name="x", dtype="int64", low=(0,)), None),
        (ArraySpec(name="x", dtype="int64", shape=(1,), low=(0,), high=(5,)), None),
        (ArraySpec(name="x", dtype="float32", low=(0,), high=(5,)), None),
    ],
)
def test_discrete_scalars_are_integers_from_zero(spec: ArraySpec, num_values: int | None) -> None:
    assert spec.num_values == num_values


@pytest.mark.parametrize("spec", [with_action(dtype="float32"), dataclasses.replace(SPEC, actions=SPEC.actions * 2)])
def test_num_actions_needs_one_discrete_action(spec: EnvironmentSpec) -> None:
    with pytest.raises(SpecError, match="expected one discrete action"):
        _ = spec.num_actions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float64"}, "'x': expected a dtype out of uint8, int32, int64, float32, got 'float64'"),
        ({"dtype": "uint8", "shape": (84, 0)}, r"'x': expected dimensions of at least 1, got shape \(84, 0\)"),
    ],
)
def test_impossible_arrays_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ArraySpec(name="x", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": ()}, "at least one observation"),
        ({"actions": ()}, "at least one observation and one action"),
        ({"frames_per_step": 0}, "frames_per_step of at least 1, got 0"),
    ],
)
def test_impossible_environments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(SPEC, **changes)


def test_equal_specs_do_not_differ() -> None:
    assert SPEC.differences(dataclasses.replace(SPEC)) == []


@pytest.mark.parametrize(
    ("other", "differences"),
    [
        (dataclasses.replace(SPEC, preset="paper"), ["preset: 'modern' here, 'paper' there"]),
        (dataclasses.replace(SPEC, frames_per_step=1), ["frames_per_step: 4 here, 1 there"]),
        (with_action(maximum=5), ["actions['action']: int64[] in [0, 17] here, int64[] in [0, 5] there"]),
        (with_action(minimum=None, maximum=None), ["actions['action']: int64[] in [0, 17] here, int64[] there"]),
        (with_action(name="button"), ["actions: ['action'] here, ['button'] there"]),
        (
            dataclasses.replace(SPEC, environment="ALE/Breakout-v5", observations=SPEC.observations[:1] * 1),
            ["environment: 'ALE/Pong-v5' here, 'ALE/Breakout-v5' there"],
        ),
    ],
)
def test_differences_say_what_is_here_and_what_is_there(other: EnvironmentSpec, differences: list[str]) -> None:
    assert SPEC.differences(other) == differences
    assert other != SPEC


def test_order_of_arrays_is_part_of_the_contract() -> None:
    second = ArraySpec(name="speed", dtype="float32")
    one = dataclasses.replace(SPEC, observations=(*SPEC.observations, second))
    other = dataclasses.replace(SPEC, observations=(second, *SPEC.observations))
    assert one.differences(other) == ["observations: ['observation', 'speed'] here, ['speed', 'observation'] there"]


def test_json_round_trip() -> None:
    assert EnvironmentSpec.from_json(SPEC.to_json()) == SPEC
    assert EnvironmentSpec.from_json(json.dumps(SPEC.to_json())) == SPEC
    assert SPEC.to_json()["observations"][0]["shape"] == [84, 84]


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
    ],
)
def test_bad_json_is_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError):
        EnvironmentSpec.from_json(text)
