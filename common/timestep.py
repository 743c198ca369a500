"""Rows of timesteps: what environments emit and what travels to the server.

The semantics are dm_env's. A timestep is `(step_type, reward, discount, observation)`; reward and discount belong to
the transition that led to it. Terminated is LAST with discount 0, truncated is LAST with discount 1. The action that
answers a LAST row is ignored, and the row after it is FIRST.

Shapes: E environments (rows) of one client group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

STEP_TYPE_DTYPE = np.dtype("u1")
REWARD_DTYPE = np.dtype("<f4")
DISCOUNT_DTYPE = np.dtype("<f4")


LARGEST = 1e18
"""Largest magnitude of rewards and of floats in observations. What is larger is a defect: its square is infinite in
float32, so one row of it would make the answer to that row, or a whole update, not finite.
"""

MAX_COUNT = 2**53
"""Largest |return|, and most steps and frames, of an episode: so far doubles, and JSON with them, count one by one."""


class StepType(IntEnum):
    """Where in its episode a timestep stands."""

    FIRST = 0
    MID = 1
    LAST = 2


@dataclass(frozen=True, slots=True)
class EpisodeEnd:
    """The real end of an episode; lost lives are not ends.

    Attributes:
        row: which of the E rows it happened in.
        episode_return: sum of raw rewards.
        steps: agent steps.
        frames: emulator frames, counting what the reset consumed.
        truncated: a time limit ended it; else the environment did.
        info: numbers that the environment tells of it, by name; see `info_numbers.py`.
    """

    row: int
    episode_return: float
    steps: int
    frames: int
    truncated: bool = False
    info: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timesteps:
    """One timestep of each of E rows.

    Attributes:
        step_type: uint8 `[E]`, values of `StepType`.
        reward: float32 `[E]`, raw.
        discount: float32 `[E]`, 0 where terminated, otherwise 1.
        observations: one array `[E, ...]` for each `EnvironmentSpec.observations`, in that order.
        episode_ends: the rows whose real episode ended with this timestep.
    """

    step_type: NDArray[np.uint8]
    reward: NDArray[np.float32]
    discount: NDArray[np.float32]
    observations: tuple[Array, ...]
    episode_ends: tuple[EpisodeEnd, ...] = ()

    @property
    def num_rows(self) -> int:
        """E."""
        return len(self.step_type)


def is_usable(floats: Array) -> bool:
    """Whether all are finite, and none is larger than any that can be learnt from."""
    # Python's numbers: float16 has none as large as the bound. NaN is neither.
    return not floats.size or (float(floats.min()) >= -LARGEST and float(floats.max()) <= LARGEST)
