"""An environment of one's own: a class in a file, named on the command line.

    cd examples
    seedbed train --env own_environment:Corridor --max-steps 100000
    seedbed train --env own_environment:Corridor --env-kwargs '{"length": 20}' --max-steps 300000
    seedbed check own_environment:Corridor

Clients on other machines need the file too: seedbed env --server HOST:PORT --env own_environment:Corridor.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

LEFT, RIGHT = 0, 1


class Corridor(gymnasium.Env[NDArray[np.float32], np.int64]):
    """A walk to a door at one end of a corridor. The door pays 1, a step costs 0.01.

    Args:
        length: of the corridor, in steps.
    """

    def __init__(self, length: int = 8) -> None:
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._length = length
        self._place = self._door = self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begins in the middle; the door is left or right."""
        super().reset(seed=seed)  # seeds self.np_random: two environments of a run must not be the same one
        self._place, self._steps = self._length // 2, 0
        self._door = int(self.np_random.integers(2)) * self._length
        return self._look(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One step to the left or to the right."""
        self._place = min(max(self._place + (1 if action == RIGHT else -1), 0), self._length)
        self._steps += 1
        there = self._place == self._door  # terminated: nothing comes after it
        late = self._steps >= 10 * self._length  # truncated: it would have gone on, and the last look has a value
        return self._look(), 1.0 if there else -0.01, there, late, {}

    def _look(self) -> NDArray[np.float32]:
        return np.array([2 * self._place / self._length - 1, 2 * self._door / self._length - 1], np.float32)
