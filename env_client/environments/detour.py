"""Detour: a task of seedbed's own in which more reward costs more variance, and every compromise is known exactly.

It is for learning under a bound on the variance of rewards (Zhong et al., arXiv 2012.14098), and continues for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.env_client.environments.interface import Row, Status

HOME, ROAD, WIN, LOSE = range(4)
REWARDS = ((1.0, 0.0), (2.5, 0.0), (9.0, 9.0), (0.0, 0.0))
"""Of each action in each state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetourOptions:
    """Options of `Detour`.

    Attributes:
        steps: of an episode; they are there to be counted: the next one goes on where the last one was cut.
    """

    steps: int = 100


class Detour:
    """At home a step pays 1. On the road one may turn back for 2.5, or go on and find 9 or nothing at equal odds.

    ==========  ======================  ====================================
    state       action 0                action 1
    ==========  ======================  ====================================
    home        1, stay                 0, to the road
    road        2.5, home               0, to win or to lose, 1/2 each
    win, lose   9 or 0, home            the same
    ==========  ======================  ====================================

    Per step, in the long run: staying at home pays 1 with variance 0, out and back 1.25 with 1.5625, out and on 1.5
    with 11.25. What lies between is reached by mixing at random.

    Observation: float32 [4], one-hot. It never ends: episodes are cut by a time limit and go on in the same state.

    Args:
        environment_id: goes into the spec.
        options: the time limit.
        seed: of what is found.

    Raises:
        SpecError: the time limit is below 1.
    """

    def __init__(self, environment_id: str, options: DetourOptions, seed: int) -> None:
        if options.steps < 1:
            raise SpecError(f"{environment_id}: expected steps of at least 1, got {options.steps}")
        self._steps = options.steps
        self._rng = np.random.default_rng(seed)
        self._state = HOME
        self.frames = 0
        state = ArraySpec(name="observation", dtype="float32", shape=(len(REWARDS),), low=(0,), high=(1,))
        self.spec = EnvironmentSpec(environment=environment_id, observations=(state,), actions=(discrete("action", 2),))

    def reset(self, observation: Row) -> None:
        """Stays where it is; at home at first."""
        self.frames = 0
        self._show(observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Pays, then moves."""
        self.frames += 1
        goes = int(action[0])
        reward = REWARDS[self._state][goes]
        if self._state == HOME and goes:
            self._state = ROAD
        elif self._state == ROAD and goes:
            self._state = WIN if self._rng.integers(2) else LOSE
        else:
            self._state = HOME
        self._show(observation)
        return reward, Status.TRUNCATED if self.frames == self._steps else Status.RUNNING

    def close(self) -> None:
        """Nothing to free."""

    def _show(self, observation: Row) -> None:
        observation[0][...] = 0
        observation[0][self._state] = 1
