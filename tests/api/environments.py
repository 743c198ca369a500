"""Gymnasium environments: one of any spaces that remembers what it showed, paid and was told to do; and a picture."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

LENGTHS = (3, 5, 1, 4)
"""Steps of the first episodes, over and over."""


class Recorder(gymnasium.Env[Any, Any]):
    """Shows samples of its observation space; every reward is another.

    Attributes:
        shown: (observation, reward, whether it begins an episode, mask) of every row.
        taken: the actions.
    """

    def __init__(self, observation_space: Any, action_space: Any, mask: int = 0, seed: int = 0) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.observation_space.seed(seed)
        self._mask = mask
        self._random = np.random.default_rng(seed)
        self.shown: list[tuple[Any, float, bool, Any]] = []
        self.taken: list[Any] = []
        self._episode = -1
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode += 1
        self._steps = 0
        return self._show(0.0, True)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.taken.append(action)
        self._steps += 1
        reward = float(np.float32(self._random.normal()))
        observation, info = self._show(reward, False)
        return observation, reward, self._steps == LENGTHS[self._episode % len(LENGTHS)], False, info

    def _show(self, reward: float, first: bool) -> tuple[Any, dict[str, Any]]:
        observation = self.observation_space.sample()
        if self.observation_space.dtype == np.uint8:  # noise looks the same to every filter, a bright corner does not
            top, left = self._random.integers(0, 12, 2)
            observation[:top], observation[:, left:] = 0, 0
        mask = None
        if self._mask:
            mask = (self._random.random(self._mask) < 0.5).astype(np.int8)
        self.shown.append((observation, reward, first, mask))
        return observation, {} if mask is None else {"action_mask": mask}


class Picture(gymnasium.Env[Any, Any]):
    """Shows a coloured picture and a number, always the same."""

    observation_space = gymnasium.spaces.Dict(
        {"eye": gymnasium.spaces.Box(0, 255, (40, 60, 3), np.uint8), "clock": gymnasium.spaces.Box(0, 1, (1,))}
    )
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, seed: int = 0) -> None:
        self._eye = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return {"eye": self._eye, "clock": np.zeros(1, np.float32)}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.reset()[0], 0.0, False, False, {}
