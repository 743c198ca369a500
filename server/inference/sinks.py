"""Listeners of the inference thread: who takes finished unrolls, and who hears of episodes and environments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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


class EpisodeTap(Protocol):
    """Reads what passes, in the inference thread: between an answer and the moment at which actors hear of it."""

    def begin(self, slots: NDArray[np.int64], environment_indices: Sequence[int], tasks: Sequence[int]) -> None:
        """Slots have a new holder, whose environments play these tasks."""

    def end(self, slots: NDArray[np.int64]) -> None:
        """Their holder is gone."""

    def take(self, slots: NDArray[np.int64], ended: Collection[int], lost: Collection[int]) -> None:
        """The rows of a batch stand in the slot table, with their answers.

        Args:
            slots: `[N]`.
            ended: those whose row is the real end of an episode.
            lost: those whose environment broke, so that their row cuts one.
        """


class NoTap:
    """Reads nothing."""

    def begin(self, slots: NDArray[np.int64], environment_indices: Sequence[int], tasks: Sequence[int]) -> None:
        """Ignores it."""

    def end(self, slots: NDArray[np.int64]) -> None:
        """Ignores it."""

    def take(self, slots: NDArray[np.int64], ended: Collection[int], lost: Collection[int]) -> None:
        """Ignores it."""


class UnrollSink(Protocol):
    """Where finished unrolls go."""

    def hand_over(self, slots: NDArray[np.int64]) -> None:
        """Takes the open unrolls of these slots; may wait (back-pressure)."""

    def cut(self, slots: NDArray[np.int64]) -> None:
        """The lease of these slots is over: takes what is worth taking of their open unrolls."""
