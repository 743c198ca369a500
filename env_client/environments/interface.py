"""The seam between one environment and the group of rows it belongs to.

An environment writes its observations where it is told: straight into the row that will be sent. Episodes seen by the
learner and real episodes are told apart by `Status`; step types and discounts are made from it in `environments`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import Array

Row = tuple[Array, ...]
"""One row of each observation (or action) array, in the order of the spec; observation rows are writable views."""


class Status(Enum):
    """What a step did to the episode."""

    RUNNING = "running"
    LIFE_LOST = "life lost"
    """The learner's episode ended; the game goes on."""
    TERMINATED = "terminated"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long an environment may take.

    Attributes:
        step_s: for one step.
        reset_s: for one reset, and for being built.
    """

    step_s: float = 30.0
    reset_s: float = 120.0


class Environment(Protocol):
    """One environment."""

    @property
    def spec(self) -> EnvironmentSpec:
        """What it looks like."""

    @property
    def frames(self) -> int:
        """Emulator frames of the current real episode, counting what its reset consumed."""

    def reset(self, observation: Row) -> None:
        """Starts a real episode, or, after LIFE_LOST, the learner's next one in the same game.

        Args:
            observation: where to write the first observation.
        """

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Takes one agent step.

        Args:
            action: what to do.
            observation: where to write what is seen next; the last observation of an episode is written too.

        Returns:
            The raw reward, and what became of the episode.
        """

    def close(self) -> None:
        """Frees what it holds. Nothing may be called after it."""
