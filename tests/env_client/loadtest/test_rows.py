"""Made-up timesteps keep the contract that the server enforces, whatever the spec."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed.common.codec import pack_steps
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.common.unpacking import StepsReader
from seedbed.env_client.environments.echo import ECHO_SPECS
from seedbed.env_client.loadtest.rows import NoisePool, SyntheticRows

ACTION = ArraySpec(name="action", dtype="int64", low=(0,), high=(3,), kind="discrete")
OBSERVATIONS = [
    (ArraySpec(name="observation", dtype="uint8", shape=(84, 84, 1), low=(0,), high=(255,)),),
    (ArraySpec(name="observation", dtype="uint8", shape=(2, 2)),),
    (ArraySpec(name="observation", dtype="float32", shape=(4,)),),
    (ArraySpec(name="observation", dtype="float32", shape=(4,), low=(-3.4e38,), high=(3.4e38,)),),
    (
        ArraySpec(name="a", dtype="int32", low=(2,), high=(5,), kind="discrete"),
        ArraySpec(name="b", dtype="float32", low=(7.0,)),
    ),
    (ArraySpec(name="a", dtype="int64", shape=(3,), high=(-5,)),),
    (ArraySpec(name="a", dtype="float32", shape=(3,), low=(-1, 5, -np.inf), high=(0, np.inf, -7)),),
]


def spec_of(observations: tuple[ArraySpec, ...], frames_per_step: int = 1) -> EnvironmentSpec:
    return EnvironmentSpec(
        environment="x", observations=observations, actions=(ACTION,), frames_per_step=frames_per_step
    )


def make_rows(spec: EnvironmentSpec, num_rows: int, episode_steps: int, seed: int = 0) -> SyntheticRows:
    return SyntheticRows(spec, NoisePool(spec, num_rows), num_rows, episode_steps, np.random.default_rng(seed))


@pytest.mark.parametrize("spec", [*map(spec_of, OBSERVATIONS), *ECHO_SPECS.values()])
def test_every_spec_is_served_within_its_bounds(spec: EnvironmentSpec) -> None:
    rows = make_rows(spec, 3, 5)
    timesteps = rows.reset()
    for seq in range(1, 12):
        read = StepsReader(spec, 3).read(pack_steps(seq, timesteps).steps)
        for array, array_spec in zip(read.observations, spec.observations, strict=True):
            assert array.shape == (3, *array_spec.shape)
            numbers = np.asarray(array, np.float64)
            assert ((numbers >= array_spec.lower) & (numbers <= array_spec.upper)).all()
        timesteps = rows.next()


@pytest.mark.parametrize("episode_steps", [1, 2, 7])
def test_episodes_follow_the_contract(episode_steps: int) -> None:
    """FIRST at the start and after LAST, and only there; rewards, discounts and ends where they belong."""
    rows = make_rows(spec_of(OBSERVATIONS[1], frames_per_step=4), 5, episode_steps)
    timesteps, previous = rows.reset(), np.full(5, StepType.LAST)
    age = np.zeros(5, np.int64)
    lengths: list[list[int]] = [[] for _ in range(5)]
    for _ in range(60):
        first, last = timesteps.step_type == StepType.FIRST, timesteps.step_type == StepType.LAST
        assert (first == (previous == StepType.LAST)).all()
        assert (timesteps.reward == ~first).all()
        assert (timesteps.discount == ~last).all()
        assert rows.num_agent_steps == 5 - last.sum()
        age = np.where(first, 0, age + 1)
        assert [end.row for end in timesteps.episode_ends] == np.flatnonzero(last).tolist()
        for end in timesteps.episode_ends:
            assert end.steps == end.episode_return == end.frames / 4 == age[end.row]
            lengths[end.row].append(end.steps)
        previous, timesteps = timesteps.step_type, rows.next()
    assert all(1 <= row[0] <= episode_steps and set(row[1:]) == {episode_steps} for row in lengths)


def test_rows_do_not_end_all_at_once() -> None:
    rows = make_rows(spec_of(OBSERVATIONS[1]), 64, 50)
    rows.reset()
    ends = [len(rows.next().episode_ends) for _ in range(200)]
    assert 0 < max(ends) < 10


def test_consecutive_observations_differ() -> None:
    rows = make_rows(spec_of(OBSERVATIONS[0]), 2, 100)
    before = rows.reset().observations[0]
    for _ in range(20):
        after = rows.next().observations[0]
        assert (before[0] != after[0]).any()
        before = after
