"""E environments as rows of timesteps, all of them stepped by one call.

The rows are those of `rows.Environments`. One that breaks cannot be built again by itself: a vector that raises, or
shows what no server would take, ends the client, and whoever started it starts it again.

Shapes: E environments.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from seedbed.common.environment_name import EnvironmentName
from seedbed.common.errors import BrokenError, SeedbedError, SpecError
from seedbed.common.timestep import LARGEST, MAX_COUNT, Array, EpisodeEnd, StepType, Timesteps, is_usable
from seedbed.env_client.environments.adapted import adapted_spec
from seedbed.env_client.environments.info import info_of_row, info_reader
from seedbed.env_client.environments.interface import Limits
from seedbed.env_client.environments.making import told
from seedbed.env_client.environments.shown import check_observation, write
from seedbed.env_client.environments.step_watchdog import Watchdog
from seedbed.env_client.environments.timestep_arrays import TimestepArrays
from seedbed.env_client.environments.vectors import Stepped, VectorMaker, row_of

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_FAULTS = (Exception, SystemExit)


class BatchedEnvironments:
    """A vector of environments.

    Args:
        make: makes it.
        wanted: what is asked for: images are made smaller here, a row at a time; limits of steps are the vector's.
        indices: stable indices.
        seeds: of the environments.
        limits, watchdog: see `Supervised`.
        info_keys: which numbers of `info` are told; see `info.py`.

    Raises:
        SpecError: it cannot be made, its spaces are not supported, or it shows no image that could be made smaller.
    """

    def __init__(
        self,
        make: VectorMaker,
        wanted: EnvironmentName,
        indices: Sequence[int],
        seeds: Sequence[int],
        *,
        limits: Limits | None = None,
        watchdog: Watchdog | None = None,
        info_keys: str = "auto",
    ) -> None:
        self._limits, self._watchdog = limits or Limits(), watchdog or Watchdog()
        self._seeds: Sequence[int] | None = tuple(seeds)
        self.indices = tuple(indices)
        self._name = str(wanted)
        self._vector = self._careful("building the vector", self._limits.reset_s, lambda: make(seeds))
        before = self._vector.spec.observations
        try:
            self.spec, self._shrinks = adapted_spec(self._vector.spec, wanted)
        except SpecError:
            self.close()
            raise
        self._read_info = info_reader(info_keys)
        count = len(indices)
        self._arrays = TimestepArrays(self.spec, count)
        self._before: tuple[Array, ...] = tuple(
            target if shrink is None else np.zeros((count, *array.shape), array.numpy_dtype)
            for array, target, shrink in zip(before, self._arrays.observations, self._shrinks, strict=True)
        )
        self._returns = np.zeros(count)
        self._steps = np.zeros(count, np.int64)
        self._looked = 0

    def reset(self) -> Timesteps:
        """Starts an episode in every row; see `rows.Environments`."""
        seeds, self._seeds = self._seeds, None  # later ones go on with the same random numbers
        parts = self._careful("a reset of the vector", self._limits.reset_s, lambda: self._vector.reset(seeds))
        self._show(parts, "the first reset")
        self._begin(np.ones(len(self.indices), np.bool_))
        return self._arrays.timesteps([])

    def step(self, actions: tuple[Array, ...]) -> Timesteps:
        """Steps every row within an episode, and starts a new one in the rows that were LAST; see `rows.Environments`.

        The vector does both in one call: it begins the next episode with the step after the last.
        """
        over = self._arrays.step_type == StepType.LAST
        stepped = self._careful("a step of the vector", self._limits.step_s, lambda: self._vector.step(actions))
        self._show(stepped.observations, "the first step")
        terminated, truncated = np.asarray(stepped.terminated, np.bool_), np.asarray(stepped.truncated, np.bool_)
        if (over & (terminated | truncated)).any():
            self._fail("an episode began and ended with one step: it has no next-step autoreset")
        reward = np.asarray(stepped.reward, np.float64)  # of rows that begin an episode it is none: see `_begin`
        if not is_usable(reward):
            self._fail(f"a reward is not finite, or beyond {LARGEST:g}")
        self._arrays.reward[:] = reward
        self._returns += reward
        self._steps += ~over
        if (np.abs(self._returns) > MAX_COUNT).any():
            self._fail("a return is out of bounds")
        ended = terminated | truncated
        self._arrays.step_type[:] = np.where(ended, StepType.LAST, StepType.MID)
        self._arrays.discount[:] = np.where(terminated, 0.0, 1.0)
        ends = [self._end(int(row), bool(terminated[row]), stepped) for row in np.flatnonzero(ended)]
        self._begin(over)
        return self._arrays.timesteps(ends)

    def close(self) -> None:
        """Closes all of them."""
        with contextlib.suppress(*_FAULTS):
            self._vector.close()

    def _begin(self, rows: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        self._arrays.begin(rows)
        self._returns[rows] = 0.0
        self._steps[rows] = 0

    def _end(self, row: int, terminated: bool, stepped: Stepped) -> EpisodeEnd:
        steps = int(self._steps[row])
        frames = self._vector.frames(row, steps)
        info = self._read_info(info_of_row(stepped.info, row))
        return EpisodeEnd(row, float(self._returns[row]), steps, frames, not terminated, info)

    def _show(self, parts: Sequence[Any], when: str) -> None:
        """Copies what is shown; the first two times one row of it is compared with the spaces."""
        if self._looked < 2:
            self._looked += 1
            shown, containers = self._vector.shown, self._vector.containers
            one = containers.build(list(row_of(parts[: len(shown)], 0)))
            try:
                check_observation(one, shown, containers, when)
            except SpecError as error:
                raise SpecError(f"{self._name}: {error}") from None
        for part, target, array in zip(parts, self._before, self._vector.spec.observations, strict=True):
            try:
                write(np.asarray(part), target, array)
            except (TypeError, ValueError) as error:
                self._fail(str(error))
            if target.dtype.kind == "f" and not is_usable(target):
                self._fail(f"{array.name!r} is not finite, or beyond {LARGEST:g}")
        for before, target, shrink in zip(self._before, self._arrays.observations, self._shrinks, strict=True):
            if shrink is not None:
                for large, small in zip(before, target, strict=True):
                    shrink(large, small)

    def _careful(self, what: str, limit_s: float, call: Callable[[], _T]) -> _T:
        self._watchdog.watch(what, limit_s)
        try:
            return call()
        except SeedbedError:
            raise
        except _FAULTS as fault:
            _log.debug("%s failed", what, exc_info=True)
            raise BrokenError(f"{self._name}: {what} raised {told(fault)}") from fault
        finally:
            self._watchdog.rest()

    def _fail(self, what: str) -> None:
        raise BrokenError(f"{self._name}: {what}")
