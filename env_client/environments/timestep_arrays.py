"""Arrays of E rows of timesteps: allocated once, and written by every step."""

from __future__ import annotations

from typing import Any

import numpy as np

from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import (
    DISCOUNT_DTYPE,
    REWARD_DTYPE,
    STEP_TYPE_DTYPE,
    Array,
    EpisodeEnd,
    StepType,
    Timesteps,
)


class TimestepArrays:
    """The newest timestep of E rows; at first all are LAST, so that the next one begins an episode.

    Attributes:
        step_type, reward, discount, observations: see `Timesteps`.
    """

    def __init__(self, spec: EnvironmentSpec, num_rows: int) -> None:
        self.step_type = np.full(num_rows, StepType.LAST, STEP_TYPE_DTYPE)
        self.reward = np.zeros(num_rows, REWARD_DTYPE)
        self.discount = np.ones(num_rows, DISCOUNT_DTYPE)
        self.observations: tuple[Array, ...] = tuple(
            np.zeros((num_rows, *array.shape), array.numpy_dtype) for array in spec.observations
        )

    def begin(self, rows: Any) -> None:
        """An episode begins in these rows, one or those of a mask: nothing has been paid, and nothing has ended."""
        self.step_type[rows] = StepType.FIRST
        self.reward[rows] = 0.0
        self.discount[rows] = 1.0

    def timesteps(self, ends: list[EpisodeEnd]) -> Timesteps:
        """These arrays themselves, not copies: the next step writes into them."""
        return Timesteps(self.step_type, self.reward, self.discount, self.observations, tuple(ends))
