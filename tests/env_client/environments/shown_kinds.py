"""An environment that shows an array of every kind, and pays for an answer that needs two of them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple


class EveryKind(gymnasium.Env[Any, Any]):
    """Ten steps. Right, for 1 a step: whether just one of screen and state is bright."""

    observation_space = Dict(
        {
            "screen": Box(0, 255, (36, 40), np.uint8),
            "state": Box(-np.inf, np.inf, (3,), np.float32),
            "first": Box(0, 255, (3, 36, 40), np.uint8),
            "floats": Box(0, 1, (36, 36, 3), np.float32),
            "grid": Box(0, 255, (7, 7, 3), np.uint8),
            "more": Tuple((Discrete(5, start=2), MultiBinary(3), MultiDiscrete([2, 70]), Box(-5, 5, (2,), np.int64))),
        }
    )
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action == self._bright ^ self._positive)
        self._steps += 1
        return self._show(), reward, self._steps == 10, False, {}

    def _show(self) -> dict[str, Any]:
        self._bright, self._positive = map(int, self.np_random.integers(0, 2, 2))
        return {
            "screen": np.full((36, 40), 200 * self._bright, np.uint8),
            "state": np.array([2 * self._positive - 1, 0.5, 1], np.float32),
            "first": self.np_random.integers(0, 256, (3, 36, 40), np.uint8),
            "floats": self.np_random.random((36, 36, 3), np.float32),
            "grid": self.np_random.integers(0, 11, (7, 7, 3), np.uint8),
            "more": (
                2 + self._steps % 5,
                np.array([0, self._bright, 1], np.int8),
                np.array([1, 60 + self._steps % 10]),
                np.array([self._steps % 5, -5]),
            ),
        }


gymnasium.register("EveryKind-v0", entry_point=f"{__name__}:EveryKind")
