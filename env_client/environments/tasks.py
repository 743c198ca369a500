"""Two tiny tasks of bsuite, for proofs that something learns at all and that memory is wired correctly.

Behaviour follows https://github.com/google-deepmind/bsuite, environments/catch.py and environments/memory_chain.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.common.timestep import Array
from seedbed.env_client.environments.interface import Row, Status

CATCH_ROWS = 10
CATCH_COLUMNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchOptions:
    """Options of `Catch`, for runs of several of them.

    Attributes:
        reward_scale: what rewards are multiplied by.
        mirrored: 1: left is right and right is left, which the observation does not show.
    """

    reward_scale: float = 1.0
    mirrored: int = 0


class Catch:
    """A ball falls one cell a step; a paddle on the bottom row should be under it. Nine steps, then +1 or -1.

    Observation: float32 [10, 5], 1 at ball and paddle. Actions: left, stay, right.

    Args:
        environment_id: goes into the spec.
        options: unit of rewards and meaning of actions.
        seed: of the column in which balls start.
    """

    def __init__(self, environment_id: str, options: CatchOptions, seed: int) -> None:
        self._scale, self._right = options.reward_scale, -1 if options.mirrored else 1
        self._rng = np.random.default_rng(seed)
        self._ball = (0, 0)
        self._paddle = 0
        self.frames = 0
        self.spec = EnvironmentSpec(
            environment=environment_id,
            observations=(
                ArraySpec(name="observation", dtype="float32", shape=(CATCH_ROWS, CATCH_COLUMNS), low=(0,), high=(1,)),
            ),
            actions=(discrete("action", 3),),
        )

    def reset(self, observation: Row) -> None:
        """Drops a ball from a random column; the paddle starts in the middle."""
        self.frames = 0
        self._ball = (0, int(self._rng.integers(CATCH_COLUMNS)))
        self._paddle = CATCH_COLUMNS // 2
        self._draw(observation[0])

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Moves the paddle, then the ball."""
        self.frames += 1
        move = self._right * (int(action[0]) - 1)
        self._paddle = min(max(self._paddle + move, 0), CATCH_COLUMNS - 1)
        row, column = self._ball
        self._ball = (row + 1, column)
        self._draw(observation[0])
        if row + 1 < CATCH_ROWS - 1:
            return 0.0, Status.RUNNING
        return self._scale * (1.0 if column == self._paddle else -1.0), Status.TERMINATED

    def close(self) -> None:
        """Nothing to free."""

    def _draw(self, board: Array) -> None:
        board[...] = 0
        board[self._ball] = 1
        board[CATCH_ROWS - 1, self._paddle] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryChainOptions:
    """Options of `MemoryChain`.

    Attributes:
        length: N; the cue must be remembered over N - 1 further observations. At least 2: with 1 no memory is needed.
    """

    length: int = 7


class MemoryChain:
    """A cue is shown at the start; at the end the action must repeat it, for +1 or -1. 0 until then.

    Observation: float32 [3] = (1 - t/N, 0, cue), cue = -1 or 1 at t = 0 and 0 afterwards; the second number is bsuite's
    query, always 0 with one cue. Two actions. As in bsuite the observation is taken before the clock moves, so t = 0 is
    shown twice, an episode has N + 1 actions, and only the last counts. Without memory the mean return is 0.

    Args:
        environment_id: goes into the spec.
        options: the length.
        seed: of the cues.

    Raises:
        SpecError: the length is below 2.
    """

    def __init__(self, environment_id: str, options: MemoryChainOptions, seed: int) -> None:
        if options.length < 2:
            raise SpecError(f"{environment_id}: expected a length of at least 2, got {options.length}")
        self._length = options.length
        self._rng = np.random.default_rng(seed)
        self._cue = 0
        self.frames = 0
        self.spec = EnvironmentSpec(
            environment=environment_id,
            observations=(ArraySpec(name="observation", dtype="float32", shape=(3,), low=(-1,), high=(1,)),),
            actions=(discrete("action", 2),),
        )

    def reset(self, observation: Row) -> None:
        """Draws a cue and shows it."""
        self.frames = 0
        self._cue = int(self._rng.integers(2))
        self._write(observation[0])

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Shows the present time, then moves the clock."""
        self._write(observation[0])
        self.frames += 1
        if self.frames <= self._length:
            return 0.0, Status.RUNNING
        return (1.0 if int(action[0]) == self._cue else -1.0), Status.TERMINATED

    def close(self) -> None:
        """Nothing to free."""

    def _write(self, observation: Array) -> None:
        observation[0] = 1 - self.frames / self._length
        observation[1] = 0
        observation[2] = 2 * self._cue - 1 if self.frames == 0 else 0
