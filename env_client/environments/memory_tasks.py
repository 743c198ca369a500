"""Small tasks of seedbed's own that only a memory solves: a maze with a cue, and objects in an order to be found out.

After the two tasks of Parisotto and Salakhutdinov 2021 (arXiv 2104.01655), whose exact rules are not published: these
here are seedbed's, so figures of the paper are not comparable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.env_client.environments.interface import Row, Status

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Rows and columns that the actions north, east, south, west move by."""

_MAZE_COLUMNS = 5
_STEM = 2
_VIEW = 3
_LONGEST = 10  # steps of an episode for each row of the maze


@dataclass(frozen=True, slots=True, kw_only=True)
class IMazeOptions:
    """Options of `IMaze`.

    Attributes:
        height: H, rows of the maze. At least 3.
    """

    height: int = 9


class IMaze:
    """A maze in the form of an I. A cue at the end of the upper bar says at which end of the lower bar the prize is.

    Five cells above, five below, a stem between their middles. The start is above the stem, and the cue, -1 or 1,
    stands two cells west of it: it must be looked for, and remembered down the stem. The west end of the lower bar pays
    1 if it is -1, the east end if it is 1, the other end -1; both end the episode. Every other step costs 0.01, and
    after 10 H of them the episode is cut.

    Observation: float32 [18], the 3 x 3 cells around: of each whether it is free, then of each the cue that lies there.
    Actions: north, east, south, west; a wall is no way. The best return is 1 - 0.01 (H + 2), in H + 3 steps; without
    looking or without memory it is -0.01 H on average.

    Args:
        environment_id: goes into the spec.
        options: the height.
        seed: of the cues.

    Raises:
        SpecError: the height is below 3.
    """

    def __init__(self, environment_id: str, options: IMazeOptions, seed: int) -> None:
        self._height = _at_least(environment_id, "height", options.height, 3)
        self._rng = np.random.default_rng(seed)
        self._place = (0, _STEM)
        self.frames = 0
        # With a wall around, so that every cell has a 3 x 3 neighbourhood; [..., 0] free, [..., 1] the cue.
        self._cells = np.zeros((self._height + 2, _MAZE_COLUMNS + 2, 2), np.float32)
        self._cells[1, 1:-1, 0] = self._cells[-2, 1:-1, 0] = self._cells[1:-1, 1 + _STEM, 0] = 1
        view = ArraySpec(name="observation", dtype="float32", shape=(2 * _VIEW**2,), low=(-1,), high=(1,))
        self.spec = EnvironmentSpec(
            environment=environment_id, observations=(view,), actions=(discrete("action", len(MOVES)),)
        )

    def reset(self, observation: Row) -> None:
        """Draws a cue; the start is the middle of the upper bar."""
        self.frames = 0
        self._place = (0, _STEM)
        self._cells[1, 1, 1] = 2 * int(self._rng.integers(2)) - 1
        self._look(observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Moves, if there is a way."""
        self.frames += 1
        row, column = self._place
        down, right = MOVES[int(action[0])]
        if self._cells[row + down + 1, column + right + 1, 0]:
            self._place = row, column = row + down, column + right
        self._look(observation)
        if row == self._height - 1 and column in (0, _MAZE_COLUMNS - 1):
            end = -1 if column == 0 else 1
            return (1.0 if end == self._cells[1, 1, 1] else -1.0), Status.TERMINATED
        return -0.01, Status.TRUNCATED if self.frames == _LONGEST * self._height else Status.RUNNING

    def close(self) -> None:
        """Nothing to free."""

    def _look(self, observation: Row) -> None:
        row, column = self._place
        observation[0][...] = self._cells[row : row + _VIEW, column : column + _VIEW].transpose(2, 0, 1).ravel()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaFetchOptions:
    """Options of `MetaFetch`.

    Attributes:
        size: rows and columns of the board.
        objects: n, how many there are.
        steps: of an episode.
    """

    size: int = 5
    objects: int = 3
    steps: int = 60


class MetaFetch:
    """Objects lie on a board and must be collected in a hidden order, again and again, for as many steps as there are.

    Places and order are drawn for each episode. Who enters an object that is next in the order collects it, for 1;
    any other puts all that were collected back, and so the order is found out by trying. When all are collected all are
    put back, and the order stays. Episodes end by a time limit.

    Observation: float32 [(n + 1) size^2]: where one is, then for each object where it lies, nothing if it is collected.
    Actions: north, east, south, west; beyond the edge is no way. Mean returns of 300 episodes:

    ======================================  =====  ====
    plays                                   4x4,2  5x5,3
    ======================================  =====  ====
    knows the order                         18.0   18.8
    tries once, remembers                   17.9   18.1
    takes any of the objects that are left  12.1   8.8
    takes the nearest                       1.1    0.6
    ======================================  =====  ====

    (4x4,2: size 4, two objects, 40 steps; 5x5,3: the defaults. An episode's own has a spread of 5 to 10.)

    Args:
        environment_id: goes into the spec.
        options: board, objects and steps.
        seed: of places and orders.

    Raises:
        SpecError: there is no room, or nothing to do.
    """

    def __init__(self, environment_id: str, options: MetaFetchOptions, seed: int) -> None:
        self._size = _at_least(environment_id, "size", options.size, 2)
        self._steps = _at_least(environment_id, "steps", options.steps, 1)
        if not 1 <= options.objects < options.size**2:
            room = options.size**2 - 1
            raise SpecError(f"{environment_id}: expected objects between 1 and {room}, got {options.objects}")
        self._rng = np.random.default_rng(seed)
        self._agent = 0
        self._places = np.zeros(options.objects, np.int64)
        self._order = np.arange(options.objects)
        self._num_collected = 0
        self.frames = 0
        num_cells = (options.objects + 1) * options.size**2
        board = ArraySpec(name="observation", dtype="float32", shape=(num_cells,), low=(0,), high=(1,))
        self.spec = EnvironmentSpec(
            environment=environment_id, observations=(board,), actions=(discrete("action", len(MOVES)),)
        )

    def reset(self, observation: Row) -> None:
        """Draws places and order."""
        self.frames = 0
        *places, self._agent = self._rng.permutation(self._size**2)[: len(self._places) + 1].tolist()
        self._places = np.array(places)
        self._order = self._rng.permutation(len(places))
        self._num_collected = 0
        self._show(observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Moves; what is entered counts, not what one stands on."""
        self.frames += 1
        row, column = divmod(self._agent, self._size)
        down, right = MOVES[int(action[0])]
        reward = 0.0
        if 0 <= row + down < self._size and 0 <= column + right < self._size:
            self._agent += down * self._size + right
            reward = self._enter()
        self._show(observation)
        return reward, Status.TRUNCATED if self.frames == self._steps else Status.RUNNING

    def close(self) -> None:
        """Nothing to free."""

    def _enter(self) -> float:
        """What the cell pays, and what becomes of the objects."""
        left = self._order[self._num_collected :]
        entered = left[self._places[left] == self._agent]
        if not len(entered):
            return 0.0
        if entered[0] != left[0]:
            self._num_collected = 0
            return 0.0
        self._num_collected = (self._num_collected + 1) % len(self._order)
        return 1.0

    def _show(self, observation: Row) -> None:
        boards = observation[0].reshape(len(self._places) + 1, -1)
        boards[...] = 0
        boards[0, self._agent] = 1
        left = self._order[self._num_collected :]
        boards[1 + left, self._places[left]] = 1


def _at_least(environment_id: str, name: str, value: int, least: int) -> int:
    if value < least:
        raise SpecError(f"{environment_id}: expected {name} of at least {least}, got {value}")
    return value
