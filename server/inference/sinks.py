"""Listeners of the inference thread: who takes finished unrolls, and who hears of episodes and environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seedbed.common.timestep import EpisodeEnd

EpisodeListener = Callable[[int, EpisodeEnd, str], None]
"""Called in the inference thread with the environment's stable index, and the name of the client that steps it."""


class FleetListener(Protocol):
    """Hears which environments are there, in the inference thread; all are named by their stable indices."""

    def joined(self, indices: Sequence[int], tasks: Sequence[int]) -> None:
        """These begin their first episodes, each of a task."""

    def left(self, indices: Sequence[int]) -> None:
        """These are gone for good, and the episodes they were in with them."""

    def lost(self, index: int) -> None:
        """The episode of this one was cut because the environment broke."""


class NoListener:
    """Does not want to know."""

    def joined(self, indices: Sequence[int], tasks: Sequence[int]) -> None:
        """Ignores it."""

    def left(self, indices: Sequence[int]) -> None:
        """Ignores it."""

    def lost(self, index: int) -> None:
        """Ignores it."""


class UnrollSink(Protocol):
    """Where finished unrolls go."""

    def hand_over(self, slots: NDArray[np.int64]) -> None:
        """Takes the open unrolls of these slots; may wait (back-pressure)."""

    def cut(self, slots: NDArray[np.int64]) -> None:
        """The lease of these slots is over: takes what is worth taking of their open unrolls."""
