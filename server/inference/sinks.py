"""What the inference thread hands on: finished unrolls, and the ends of episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seedbed.common.timestep import EpisodeEnd

EpisodeListener = Callable[[int, EpisodeEnd], None]
"""Called in the inference thread with the environment's stable index."""


class UnrollSink(Protocol):
    """Where finished unrolls go."""

    def hand_over(self, slots: NDArray[np.int64]) -> None:
        """Takes the open unrolls of these slots; may wait (back-pressure)."""

    def cut(self, slots: NDArray[np.int64]) -> None:
        """The lease of these slots is over: takes what is worth taking of their open unrolls."""
