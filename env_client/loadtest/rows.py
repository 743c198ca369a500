"""Made-up timesteps that keep the contract of any spec: what a client with real environments would send.

Nothing is computed per step but step types: observations are slices of one pool of noise.

Shapes: E rows of one client.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import (
    DISCOUNT_DTYPE,
    REWARD_DTYPE,
    STEP_TYPE_DTYPE,
    Array,
    EpisodeEnd,
    StepType,
    Timesteps,
)

_NUM_OFFSETS = 8  # consecutive steps differ, and no step pays for random numbers
_WIDE = 1e6  # bounds beyond this are no scale of real values


class NoisePool:
    """Random observations within a spec's bounds, shared by all clients of a process.

    Args:
        spec: of the environment.
        num_rows: E at most.
        seed: of the noise.
    """

    def __init__(self, spec: EnvironmentSpec, num_rows: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._num_rows = num_rows
        self._arrays = [_noise(array, num_rows + _NUM_OFFSETS, rng) for array in spec.observations]

    def rows(self, num_rows: int, step: int) -> tuple[Array, ...]:
        """Observations of one step, one array `[E, ...]` for each in the spec; read-only by agreement."""
        assert num_rows <= self._num_rows, "the pool is made for the largest client"
        start = step % _NUM_OFFSETS
        return tuple(array[start : start + num_rows] for array in self._arrays)


class SyntheticRows:
    """The timesteps of E environments whose episodes take a fixed number of agent steps.

    Only each row's first episode is shorter, by a random part, so that rows do not end all at once.

    Args:
        spec: of the environment.
        pool: gives the observations.
        num_rows: E.
        episode_steps: agent steps of an episode, at least 1.
        rng: of the first episodes.

    Attributes:
        num_agent_steps: rows of the last timesteps that are not LAST: the agent steps that their answer makes.
    """

    def __init__(
        self, spec: EnvironmentSpec, pool: NoisePool, num_rows: int, episode_steps: int, rng: np.random.Generator
    ) -> None:
        self._frames_per_step = spec.frames_per_step
        self._pool = pool
        self._episode_steps = episode_steps
        self._rng = rng
        self._step = 0
        self._age = np.zeros(num_rows, np.int64)
        self._length = np.full(num_rows, episode_steps)
        self.num_agent_steps = num_rows

    def reset(self) -> Timesteps:
        """Starts an episode in every row: all are FIRST."""
        self._age[:] = 0
        self._length = self._rng.integers(1, self._episode_steps, len(self._age), endpoint=True)
        return self._timesteps()

    def next(self) -> Timesteps:
        """The timesteps that follow."""
        over = self._age == self._length
        self._age += 1
        if over.any():
            self._age[over] = 0
            self._length[over] = self._episode_steps
        return self._timesteps()

    def _timesteps(self) -> Timesteps:
        first, last = self._age == 0, self._age == self._length
        step_type = np.full(len(self._age), StepType.MID, STEP_TYPE_DTYPE)
        step_type[first], step_type[last] = StepType.FIRST, StepType.LAST
        rows_that_end = np.flatnonzero(last)
        self.num_agent_steps = len(self._age) - len(rows_that_end)
        self._step += 1
        return Timesteps(
            step_type,
            (~first).astype(REWARD_DTYPE),
            (~last).astype(DISCOUNT_DTYPE),
            self._pool.rows(len(self._age), self._step),
            tuple(self._end(int(row)) for row in rows_that_end),
        )

    def _end(self, row: int) -> EpisodeEnd:
        steps = int(self._length[row])
        return EpisodeEnd(row, float(steps), steps, steps * self._frames_per_step)


def _noise(spec: ArraySpec, num_rows: int, rng: np.random.Generator) -> Array:
    """Any values `[num_rows, *shape]` within the bounds of each element."""
    shape = (num_rows, *spec.shape)
    low, high = _range(spec)
    if spec.dtype == "float32":
        return rng.uniform(low, high, shape).astype(spec.numpy_dtype)
    return rng.integers(low.astype(np.int64), high.astype(np.int64), shape, endpoint=True).astype(spec.numpy_dtype)


def _range(spec: ArraySpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of each element. Where it has none: all of uint8, and -1 to 1 of others, if the other bound allows."""
    least, most = (0.0, 255.0) if spec.dtype == "uint8" else (-1.0, 1.0)
    has_low, has_high = spec.lower > -_WIDE, spec.upper < _WIDE
    low = np.where(has_low, spec.lower, np.where(has_high, np.minimum(least, spec.upper), least))
    return low, np.where(has_high, spec.upper, np.maximum(most, low))
