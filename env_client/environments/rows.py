"""E environments as rows of timesteps.

An environment that breaks costs its own episode: that is cut like at a time limit, on its last observation, and a new
environment (`supervised.py`) begins the next one. Such an end is no `EpisodeEnd`: it says nothing about the policy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seedbed.common.timestep import LARGEST, MAX_COUNT, Array, EpisodeEnd, StepType, Timesteps, is_usable
from seedbed.env_client.environments.interface import Status, info_of
from seedbed.env_client.environments.supervised import Supervised
from seedbed.env_client.environments.timestep_arrays import TimestepArrays


class Environments:
    """E environments which are stepped one after another in the calling thread.

    Args:
        seats: at least one; their environments have the same spec.
    """

    def __init__(self, seats: Sequence[Supervised]) -> None:
        first = seats[0].environment
        assert first is not None
        self.spec = first.spec
        self.indices = tuple(seat.index for seat in seats)
        self._seats = tuple(seats)
        num_rows = len(seats)
        self._arrays = TimestepArrays(self.spec, num_rows)
        self._before = tuple(np.zeros_like(array) for array in self._arrays.observations)  # the last timestep's
        # `[row, ...]` keeps scalar observations writable views.
        self._rows = [tuple(array[row, ...] for array in self._arrays.observations) for row in range(num_rows)]
        self._status = [Status.RUNNING] * num_rows
        self._return = [0.0] * num_rows
        self._steps = [0] * num_rows

    def reset(self) -> Timesteps:
        """Starts an episode in every row.

        Returns:
            All rows FIRST. The arrays belong to this object: the next call writes into them.
        """
        for row in range(len(self._seats)):
            self._start(row)
        return self._arrays.timesteps([])

    def step(self, actions: tuple[Array, ...]) -> Timesteps:
        """Steps every row that is within an episode, and starts a new one in the rows that were LAST.

        Args:
            actions: one array `[E, ...]` for each action spec; rows that were LAST are ignored.

        Returns:
            The next timesteps. The arrays belong to this object: the next call writes into them.
        """
        for before, array in zip(self._before, self._arrays.observations, strict=True):
            np.copyto(before, array)
        ends: list[EpisodeEnd] = []
        for row in range(len(self._seats)):
            if self._arrays.step_type[row] == StepType.LAST:
                self._start(row)
            else:
                self._advance(row, actions, ends)
        broken = self._fail_where_not_finite()
        return self._arrays.timesteps([end for end in ends if end.row not in broken] if broken else ends)

    def close(self) -> None:
        """Closes all of them."""
        for seat in self._seats:
            seat.close()

    def _start(self, row: int) -> None:
        rebuilt = self._seats[row].reset(self._rows[row])
        if rebuilt or self._status[row] is not Status.LIFE_LOST:  # a real episode starts
            self._return[row] = 0.0
            self._steps[row] = 0
        self._status[row] = Status.RUNNING
        self._arrays.begin(row)

    def _advance(self, row: int, actions: tuple[Array, ...], ends: list[EpisodeEnd]) -> None:
        seat = self._seats[row]
        result = seat.step(tuple(array[row] for array in actions), self._rows[row])
        if result is None:
            self._cut(row)
            return
        reward, status = result
        self._return[row] += reward
        if abs(self._return[row]) > MAX_COUNT:  # no server would take it
            seat.fail(ValueError(f"the return {self._return[row]} is out of bounds"))
            self._cut(row)
            return
        self._steps[row] += 1
        self._status[row] = status
        self._arrays.step_type[row] = StepType.MID if status is Status.RUNNING else StepType.LAST
        self._arrays.reward[row] = reward
        self._arrays.discount[row] = 0.0 if status in (Status.TERMINATED, Status.LIFE_LOST) else 1.0
        if status in (Status.TERMINATED, Status.TRUNCATED):
            assert seat.environment is not None
            frames, info = seat.environment.frames, info_of(seat.environment)
            truncated = status is Status.TRUNCATED
            ends.append(EpisodeEnd(row, self._return[row], self._steps[row], frames, truncated, info))

    def _cut(self, row: int) -> None:
        """The environment broke: its episode ends, truncated, with what was seen last."""
        for before, array in zip(self._before, self._arrays.observations, strict=True):
            array[row] = before[row]
        self._status[row] = Status.TRUNCATED
        self._arrays.step_type[row] = StepType.LAST
        self._arrays.reward[row] = 0.0
        self._arrays.discount[row] = 1.0

    def _fail_where_not_finite(self) -> set[int]:
        """A server refuses such a message and with it the whole client. All rows at once: it costs a microsecond."""
        broken: set[int] = set()
        for array, spec in zip(self._arrays.observations, self.spec.observations, strict=True):
            if array.dtype.kind == "f" and not is_usable(array):
                finite = (np.abs(array) <= LARGEST).reshape(len(array), -1).all(axis=1)
                for row in map(int, np.flatnonzero(~finite)):
                    if row not in broken:
                        self._seats[row].fail(ValueError(f"{spec.name!r} is not finite, or beyond {LARGEST:g}"))
                    broken.add(row)
        for row in broken:
            self._cut(row)
        return broken
