"""Synthetic environments."""

from __future__ import annotations

import time

import numpy as np
import pytest

from seedbed.common.errors import SpecError
from seedbed.common.timestep import StepType
from seedbed.env_client.environments.building import describe, make_environments


def test_timing_and_checks_are_not_part_of_the_contract() -> None:
    assert describe("seedbed/Echo-v0,check=1,step_ms=5", "") == describe("seedbed/Echo-v0", "")
    assert describe("seedbed/Synthetic-v0,step_ms=2,jitter_ms=1", "").environment == "seedbed/Synthetic-v0"
    assert describe("seedbed/Synthetic-v0,actions=18", "").environment == "seedbed/Synthetic-v0"


@pytest.mark.parametrize(
    ("dtype", "shape", "maximum"), [("uint8", (4, 5, 3), 255), ("float32", (7,), 1), ("int32", (2, 2), 255)]
)
def test_synthetic_shows_what_it_was_told_to(dtype: str, shape: tuple[int, ...], maximum: int) -> None:
    text = "x".join(map(str, shape))
    environments = make_environments(f"seedbed/Synthetic-v0,shape={text},dtype={dtype},actions=3", "", [0, 1], 0)
    spec = environments.spec
    assert (
        spec.environment
        == "seedbed/Synthetic-v0,actions=3" + (f",dtype={dtype}" if dtype != "uint8" else "") + f",shape={text}"
    )
    assert (spec.observations[0].dtype, spec.observations[0].shape, spec.num_actions) == (dtype, shape, 3)
    rows = environments.reset()
    first = rows.observations[0].copy()
    assert first.max() <= maximum
    assert not np.array_equal(first[0], first[1])
    rows = environments.step((np.zeros(2, np.int64),))
    assert not np.array_equal(rows.observations[0], first)
    assert rows.reward.tolist() == [1, 1]


def test_synthetic_ends_on_time() -> None:
    environments = make_environments("seedbed/Synthetic-v0,shape=2,length=3", "", [0], 0)
    rows = environments.reset()
    kinds = [int(rows.step_type[0])]
    for _ in range(4):
        rows = environments.step((np.zeros(1, np.int64),))
        kinds.append(int(rows.step_type[0]))
    assert kinds == [StepType.FIRST, StepType.MID, StepType.MID, StepType.LAST, StepType.FIRST]


def test_step_takes_its_time() -> None:
    environments = make_environments("seedbed/Synthetic-v0,shape=2,step_ms=20,jitter_ms=5", "", [0], 0)
    environments.reset()
    began_s = time.perf_counter()
    for _ in range(5):
        environments.step((np.zeros(1, np.int64),))
    assert 0.1 <= time.perf_counter() - began_s < 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shape=4xx", "expected a shape"),
        ("dtype=float64", "dtype out of"),
        ("actions=none", "expected actions to be of type int"),
        ("actions=0", "at least 1"),
        ("colour=red", "expected options out of shape"),
        ("shape=0x3", "dimensions of at least 1"),
    ],
)
def test_senseless_options_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        describe(f"seedbed/Synthetic-v0,{text}", "")
