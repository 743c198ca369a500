"""Orchard: which of the trees that were shown of late bears most? Episodes of ten steps."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray


class Orchard(gymnasium.Env[NDArray[np.float32], int]):
    """Shows what each tree bears; choosing the best one pays 1."""

    def __init__(self, trees: int = 4) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (trees,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(trees)  # type: ignore[assignment]
        self._shown = np.zeros(trees, np.float32)
        self._left = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A new day."""
        super().reset(seed=seed)
        self._left = 10
        return self._show(), {}

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Picks from a tree."""
        reward = float(action == int(self._shown.argmax()))
        self._left -= 1
        return self._show(), reward, self._left == 0, False, {}

    def _show(self) -> NDArray[np.float32]:
        self._shown = self.np_random.random(self._shown.shape).astype(np.float32)
        return self._shown


def make(trees: int = 4) -> Orchard:
    """What --env orchard makes."""
    return Orchard(trees)
