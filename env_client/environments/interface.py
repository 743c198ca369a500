"""The seam between one environment and the group of rows it belongs to.

An environment writes its observations where it is told: straight into the row that will be sent. Episodes seen by the
learner and real episodes are told apart by `Status`; step types and discounts are made from it in `environments`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from numpy.typing import NDArray

from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import Array, Timesteps

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Asides:
    """What an environment shows beside its contract.

    Attributes:
        render: "human" for a window, "rgb_array" for pictures (`picture_of`), else "none".
        info_keys: which numbers of an episode are sent: "auto", "none", or names with commas between; see `info.py`.
        film: a file for a video of environment 0, of which `film.py` tells.
        film_episodes: of how many episodes.
        film_fps: pictures a second; None: as the environment says.
    """

    render: str = "none"
    info_keys: str = "auto"
    film: str | None = None
    film_episodes: int = 1
    film_fps: float | None = None


class Environment(Protocol):
    """One environment. It may have more, which `info_of` and `picture_of` ask for."""

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


def remarks_of(environment: Environment) -> list[str]:
    """What is worth knowing about its first reset and first step, of one that says so."""
    return list(getattr(environment, "remarks", ()))


class Group(Protocol):
    """Several environments as rows of timesteps, stepped together."""

    @property
    def spec(self) -> EnvironmentSpec:
        """Of each."""

    @property
    def indices(self) -> tuple[int, ...]:
        """Stable indices, in the order of the rows."""

    def reset(self) -> Timesteps:
        """Starts an episode in every row.

        Returns:
            All rows FIRST. The arrays belong to this object: the next call writes into them.
        """

    def step(self, actions: tuple[Array, ...]) -> Timesteps:
        """Steps every row that is within an episode, and starts a new one in the rows that were LAST.

        Args:
            actions: one array `[E, ...]` for each action spec; rows that were LAST are ignored.

        Returns:
            The next timesteps. The arrays belong to this object: the next call writes into them.
        """

    def close(self) -> None:
        """Closes all of them."""


def info_of(environment: Environment) -> Mapping[str, float]:
    """Numbers of the episode that has just ended: the attribute `info` of environments that have such."""
    numbers: Mapping[str, float] = getattr(environment, "info", None) or {}
    return numbers


def picture_of(environment: Environment) -> NDArray[Any] | None:
    """What a person would see now, `[H, W, 3]`: the method `picture` of environments that have it; else None."""
    picture = getattr(environment, "picture", None)
    return None if picture is None else picture()


def fps_of(environment: Environment) -> float | None:
    """Pictures a second at the speed that people know the environment by: the attribute `fps` where there is one."""
    fps: float | None = getattr(environment, "fps", None)
    return fps
