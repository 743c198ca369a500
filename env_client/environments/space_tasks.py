"""Tiny tasks of seedbed's own, one for each kind of space: proofs that such actions and observations are learnt.

Lights        several switches at once, as any composite action
Reach         a box: go to the middle of a line
CatchMasked   Catch, in which some moves are not allowed in some rows
CatchDict     Catch, shown as an image of the ball and a number for the paddle
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedbed.common.errors import InvalidMessageError, SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, action_mask, discrete
from seedbed.common.timestep import Array
from seedbed.env_client.environments.interface import Row, Status
from seedbed.env_client.environments.tasks import CATCH_COLUMNS, CATCH_ROWS, Catch, CatchOptions

NUM_LIGHTS = 5
REACH_STEPS = 20

_STICK = ArraySpec(name="/stick", dtype="float32", shape=(2,), low=(-3.0, 0.0), high=(1.0, 8.0))
_SWITCHES = {
    "multi_discrete": (
        ArraySpec(name="action", dtype="int64", shape=(NUM_LIGHTS,), low=(0,), high=(1,), kind="discrete"),
    ),
    "multi_binary": (ArraySpec(name="action", dtype="uint8", shape=(NUM_LIGHTS,), low=(0,), high=(1,), kind="binary"),),
    "tuple": tuple(discrete(f"[{light}]", 2) for light in range(NUM_LIGHTS)),
    "dict": (
        ArraySpec(name="/bits", dtype="uint8", shape=(2,), low=(0,), high=(1,), kind="binary"),
        discrete("/lever", 2, start=7),
        _STICK,
    ),
    "box": (ArraySpec(name="action", dtype="float32", shape=(NUM_LIGHTS,), low=(-1.0,), high=(1.0,)),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LightsOptions:
    """Options of `Lights`.

    Attributes:
        space: of the actions: multi_discrete, multi_binary, tuple, dict (bits, a lever and a box) or box.
    """

    space: str = "multi_discrete"


class Lights:
    """Five lights are on or off; a switch for each should be as its light. One step; the reward is the share that is.

    Observation: uint8 [5] of 0 and 1. At random the return is 0.5, at best 1. A number of a box is a switch that is on
    above 0.

    Args:
        environment_id: goes into the spec.
        options: the kind of switches.
        seed: of the lights.

    Raises:
        SpecError: there is no such kind.
    """

    def __init__(self, environment_id: str, options: LightsOptions, seed: int) -> None:
        if options.space not in _SWITCHES:
            raise SpecError(f"{environment_id}: expected a space out of {', '.join(_SWITCHES)}, got {options.space!r}")
        self._rng = np.random.default_rng(seed)
        self._lights: Array = np.zeros(NUM_LIGHTS, np.int64)
        self.frames = 0
        lights = ArraySpec(name="observation", dtype="uint8", shape=(NUM_LIGHTS,), low=(0,), high=(1,), kind="binary")
        self.spec = EnvironmentSpec(
            environment=environment_id, observations=(lights,), actions=_SWITCHES[options.space]
        )

    def reset(self, observation: Row) -> None:
        """Draws the lights."""
        self.frames = 0
        self._lights = self._rng.integers(2, size=NUM_LIGHTS)
        observation[0][...] = self._lights

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Counts the switches that are as their lights."""
        self.frames += 1
        observation[0][...] = self._lights
        switches = np.concatenate([np.ravel(part).astype(np.float64) > 0 for part in action])
        return float((switches == self._lights).mean()), Status.TERMINATED

    def close(self) -> None:
        """Nothing to free."""


class Reach:
    """A point on a line moves by a tenth of the action and pays its squared distance from 0, for 20 steps.

    They end by a time limit.

    Observation: float32 [1], the place, at first uniform in [-1, 1]. Action: float32 [1] in [-1, 1]. Always towards 0
    the return is -0.67 on average, at random -7.4.

    Args:
        environment_id: goes into the spec.
        seed: of the starts.
    """

    def __init__(self, environment_id: str, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._place = 0.0
        self.frames = 0
        self.spec = EnvironmentSpec(
            environment=environment_id,
            observations=(ArraySpec(name="observation", dtype="float32", shape=(1,)),),
            actions=(ArraySpec(name="action", dtype="float32", shape=(1,), low=(-1.0,), high=(1.0,)),),
        )

    def reset(self, observation: Row) -> None:
        """Draws the start."""
        self.frames = 0
        self._place = float(self._rng.uniform(-1, 1))
        observation[0][0] = self._place

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Moves."""
        self.frames += 1
        self._place += 0.1 * float(action[0][0])
        observation[0][0] = self._place
        return -(self._place**2), Status.TRUNCATED if self.frames == REACH_STEPS else Status.RUNNING

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchMaskedOptions:
    """Options of `CatchMasked`.

    Attributes:
        shown: 0: there is no mask, and the environment must be learnt without it.
        strict: 1: a forbidden move ends the client with an error; no part of the contract.
    """

    shown: int = 1
    strict: int = 0


class CatchMasked(Catch):
    """Catch with a fourth action. That one is never allowed, nor is a move off the board; either ends it with -1.

    Observation: Catch's board, and an action mask of 4.

    Args:
        environment_id: goes into the spec.
        options: see there.
        seed: of the column in which balls start.
    """

    def __init__(self, environment_id: str, options: CatchMaskedOptions, seed: int) -> None:
        super().__init__(environment_id, CatchOptions(), seed)
        self._options = options
        actions = (discrete("action", 4),)
        masks = (action_mask(actions),) if options.shown else ()
        self.spec = EnvironmentSpec(
            environment=environment_id, observations=(*self.spec.observations, *masks), actions=actions
        )

    def reset(self, observation: Row) -> None:
        """As Catch; in the middle all three moves are allowed."""
        super().reset(observation)
        self._allow(observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """As Catch.

        Raises:
            InvalidMessageError: the move is forbidden, and that is an error.
        """
        move = int(action[0])
        if move in self._allowed():
            result = super().step(action, observation)
        elif self._options.strict:
            raise InvalidMessageError(f"expected one of the moves {self._allowed()}, got {move}: it is forbidden here")
        else:
            self.frames += 1
            self._draw(observation[0])
            result = -1.0, Status.TERMINATED
        self._allow(observation)
        return result

    def _allowed(self) -> list[int]:
        return [move for move in range(3) if 0 <= self._paddle + move - 1 < CATCH_COLUMNS]

    def _allow(self, observation: Row) -> None:
        if self._options.shown:
            observation[1][...] = 0
            observation[1][self._allowed()] = 1


class CatchDict(Catch):
    """Catch in two arrays, of which neither is enough.

    Observations: "/ball", uint8 [20, 10, 1], 255 in the square of 2 x 2 pixels where the ball is; "/paddle", one of 5.

    Args:
        environment_id: goes into the spec.
        seed: of the column in which balls start.
    """

    def __init__(self, environment_id: str, seed: int) -> None:
        super().__init__(environment_id, CatchOptions(), seed)
        shape = (2 * CATCH_ROWS, 2 * CATCH_COLUMNS, 1)
        self.spec = EnvironmentSpec(
            environment=environment_id,
            observations=(
                ArraySpec(name="/ball", dtype="uint8", shape=shape, low=(0,), high=(255,)),
                discrete("/paddle", CATCH_COLUMNS),
            ),
            actions=self.spec.actions,
        )

    def reset(self, observation: Row) -> None:
        """As Catch."""
        super().reset((np.zeros((CATCH_ROWS, CATCH_COLUMNS), np.float32),))
        self._show(observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """As Catch."""
        result = super().step(action, (np.zeros((CATCH_ROWS, CATCH_COLUMNS), np.float32),))
        self._show(observation)
        return result

    def _show(self, observation: Row) -> None:
        row, column = (2 * place for place in self._ball)
        ball, paddle = observation
        ball[...] = 0
        ball[row : row + 2, column : column + 2] = 255
        paddle[...] = self._paddle
