"""An environment with arrays of every dtype, several actions and a mask, for `--env MODULE:ID`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Mixed(gymnasium.Env[Any, Any]):
    """Shows what it was told: every observation is made of the last action. Pays the sum of the floats in it."""

    observation_space = spaces.Dict(
        {
            "bytes": spaces.Box(0, 255, (2, 3), np.uint8),
            "shorts": spaces.Box(-100, 100, (2,), np.int16),
            "room": spaces.Discrete(5, start=3),
            "doubles": spaces.Box(-np.inf, np.inf, (2,), np.float64),
            "action_mask": spaces.MultiBinary(5 + 4),
        }
    )
    action_space = spaces.Dict(
        {
            "stick": spaces.Box(np.array([-1, 5]), np.array([0, 9]), dtype=np.float64),
            "button": spaces.Discrete(5, start=-2),
            "flags": spaces.MultiBinary(2),
        }
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._show({"stick": np.array([-1.0, 5.0]), "button": 0, "flags": np.zeros(2, np.int8)}), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self._steps += 1
        return self._show(action), float(action["stick"].sum()), self._steps == 3, False, {}

    def _show(self, action: Any) -> dict[str, Any]:
        button = int(action["button"])
        return {
            "bytes": np.full((2, 3), 100 + button, np.uint8),
            "shorts": np.array([-button, self._steps], np.int16),
            "room": 5 + button,
            "doubles": action["stick"] * 2,
            "action_mask": np.array([1, 0, 1, 1, 1, *action["flags"], 1, 1], np.int8),
        }


gymnasium.register("Mixed-v0", entry_point=f"{__name__}:Mixed")
