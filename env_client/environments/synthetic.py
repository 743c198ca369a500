"""Environments that cost nothing, echo and misbehave, for load and fault tests."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from seedbed.common.echo import (
    ECHO_ACTIONS,
    echo_action,
    echo_encode,
    echo_length,
    echo_reward,
    echo_truncates,
)
from seedbed.common.errors import InvalidMessageError, SpecError
from seedbed.common.specs import DTYPES, ArraySpec, EnvironmentSpec, discrete
from seedbed.env_client.environments.faults import FAULTS
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
        _wait(self._options.step_ms, self._options.jitter_ms, self._rng)
        self.frames += 1
        self._show(observation)
        return 1.0, Status.RUNNING if self.frames < self._options.length else Status.TERMINATED

    def close(self) -> None:
        """Nothing to free."""

    def _show(self, observation: Row) -> None:
        observation[0][...] = self._noise[self.frames % self._NUM_FRAMES]


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoOptions:
    """Options of `Echo`, none of them part of the contract.

    Attributes:
        check: 1: an action that is not `echo_action` of the observation ends the client with an error.
        fault: a name out of `FAULTS`; empty: none.
        fault_index, fault_at: which environment commits it, and in which of its steps, counted from when it was built.
        step_ms, jitter_ms: as in `SyntheticOptions`.
    """

    check: int = 0
    fault: str = ""
    fault_index: int = 0
    fault_at: int = 1
    step_ms: float = 0.0
    jitter_ms: float = 0.0


class Echo:
    """Shows (environment index, episode, step); `seedbed.common.echo` says what must follow from it.

    Args:
        environment_id: goes into the spec.
        options: see `EchoOptions`.
        index: the environment's stable index.
        seed: of the jitter.

    Raises:
        SpecError: there is no such fault.
    """

    def __init__(self, environment_id: str, options: EchoOptions, index: int, seed: int) -> None:
        if options.fault and options.fault not in FAULTS:
            raise SpecError(f"{environment_id}: expected a fault out of {', '.join(FAULTS)}, got {options.fault!r}")
        self._options = options
        self._steps_to_fault = options.fault_at if options.fault and options.fault_index == index else -1
        self._index = index
        self._rng = np.random.default_rng(seed)
        self._episode = -1
        self.frames = 0
        self.spec = EnvironmentSpec(
            environment=environment_id,
            observations=(ArraySpec(name="observation", dtype="float32", shape=(3,), low=(0,)),),
            actions=(discrete("action", ECHO_ACTIONS),),
        )

    def reset(self, observation: Row) -> None:
        """Starts the next episode; one that was left unfinished is not shown again."""
        self._episode += 1
        self.frames = 0
        observation[0][...] = self._here()

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Moves one step on, whatever the action.

        Raises:
            InvalidMessageError: the check is on, and this is not the action that answers the last observation.
        """
        taken, expected = int(action[0]), int(echo_action(self._here()))
        if self._options.check and taken != expected:
            raise InvalidMessageError(
                f"environment {self._index}, episode {self._episode}, step {self.frames}: "
                f"expected the echo {expected}, got action {taken}"
            )
        _wait(self._options.step_ms, self._options.jitter_ms, self._rng)
        self.frames += 1
        here = self._here()
        observation[0][...] = here
        self._steps_to_fault -= 1
        if self._steps_to_fault == 0:
            return FAULTS[self._options.fault](), self._status()
        return float(echo_reward(here, taken)), self._status()

    def close(self) -> None:
        """Nothing to free."""

    def _here(self) -> np.typing.NDArray[np.float32]:
        return echo_encode(self._index, self._episode, self.frames)

    def _status(self) -> Status:
        if self.frames < echo_length(self._index, self._episode):
            return Status.RUNNING
        return Status.TRUNCATED if echo_truncates(self._index, self._episode) else Status.TERMINATED


def _wait(step_ms: float, jitter_ms: float, rng: np.random.Generator) -> None:
    if step_ms or jitter_ms:
        time.sleep((step_ms + jitter_ms * rng.random()) / 1000)
