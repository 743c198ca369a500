"""Synthetic environments: noise that costs nothing, for load tests."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from seedbed.common.errors import SpecError
from seedbed.common.specs import DTYPES, ArraySpec, EnvironmentSpec, discrete
from seedbed.env_client.environments.interface import Row, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticOptions:
    """Options of `Synthetic`.

    Attributes:
        shape: of one observation, as "84x84".
        dtype: of the observation.
        actions: A.
        length: agent steps of an episode.
        step_ms, jitter_ms: a step takes `step_ms` plus a random time up to `jitter_ms`. Not part of the contract: slow
            and fast clients serve one run.
    """

    shape: str = "84x84"
    dtype: str = "uint8"
    actions: int = 18
    length: int = 100
    step_ms: float = 0.0
    jitter_ms: float = 0.0


class Synthetic:
    """Shows noise, pays 1 a step and ends on time. Costs one copy of one observation.

    Args:
        environment_id: goes into the spec.
        options: see `SyntheticOptions`.
        seed: of noise and jitter.

    Raises:
        SpecError: an option makes no sense.
    """

    # Distinct observations; shown in turn, so that no step pays for random numbers.
    _NUM_FRAMES = 8

    def __init__(self, environment_id: str, options: SyntheticOptions, seed: int) -> None:
        if options.dtype not in DTYPES or not all(size.isdecimal() for size in options.shape.split("x")):
            raise SpecError(f"{environment_id}: expected a shape like 84x84 and a dtype out of {', '.join(DTYPES)}")
        if options.actions < 1 or options.length < 1:
            raise SpecError(f"{environment_id}: expected actions and length of at least 1")
        shape = tuple(map(int, options.shape.split("x")))
        self._options = options
        self._rng = np.random.default_rng(seed)
        noise = self._rng.integers(0, 256, (self._NUM_FRAMES, *shape))
        self._noise = noise.astype(options.dtype) if options.dtype != "float32" else (noise / 255).astype(np.float32)
        self.frames = 0
        maximum = 1 if options.dtype == "float32" else 255
        self.spec = EnvironmentSpec(
            environment=environment_id,
            observations=(ArraySpec(name="observation", dtype=options.dtype, shape=shape, low=(0,), high=(maximum,)),),
            actions=(discrete("action", options.actions),),
        )

    def reset(self, observation: Row) -> None:
        """Starts over."""
        self.frames = 0
        self._show(observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Waits as long as it was told to, then shows the next frame."""
        take_time(self._options.step_ms, self._options.jitter_ms, self._rng)
        self.frames += 1
        self._show(observation)
        return 1.0, Status.RUNNING if self.frames < self._options.length else Status.TERMINATED

    def close(self) -> None:
        """Nothing to free."""

    def _show(self, observation: Row) -> None:
        observation[0][...] = self._noise[self.frames % self._NUM_FRAMES]


def take_time(step_ms: float, jitter_ms: float, rng: np.random.Generator) -> None:
    """Sleeps that long, plus a random time up to `jitter_ms`."""
    if step_ms or jitter_ms:
        time.sleep((step_ms + jitter_ms * rng.random()) / 1000)
