"""Episodes out of what passes a server: whole ones alone, of some environments, as they were shown, acted and paid.

An episode is what the learner sees as one: where a preset ends it at a lost life, a recorded one ends there too. One
that is cut, by an environment that broke or a client that left, is dropped and counted.

Shapes: S slots, T steps of an episode.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seedbed.common.timestep import Array, StepType
from seedbed.server.shared.recent import Recent
from seedbed.server.shared.slots import SlotTable

_GOLDEN_RATIO, _PLASTIC_RATIO = 0.6180339887498949, 0.7548776662466927
_MOST_BYTES = 1 << 30
"""Of an episode; one that never ends must not fill the memory."""

_MOST_ENVIRONMENTS = 1 << 16  # whose episodes are counted, so that the recorded ones are spread evenly


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One whole episode.

    Attributes:
        environment_index: stable, of its environment.
        task: the number of the task that it plays.
        observations: `[T + 1, ...]` for each array of the contract, as they travelled.
        actions: `[T, ...]` for each action array, as they were sent.
        rewards: float32 `[T]`, raw.
        terminated: the environment ended it; else it was truncated.
    """

    environment_index: int
    task: int = 0
    observations: tuple[Array, ...]
    actions: tuple[Array, ...]
    rewards: NDArray[np.float32]
    terminated: bool

    @property
    def num_bytes(self) -> int:
        """Of all arrays."""
        return sum(array.nbytes for array in (*self.observations, *self.actions))


@dataclass(slots=True)
class _Open:
    """An episode that goes on: rows so far, the action of each beside it."""

    observations: list[tuple[Array, ...]] = field(default_factory=list)
    actions: list[tuple[Array, ...]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Quota:
    """How many episodes are wanted.

    Attributes:
        num_envs: environments, with the indices 0 to num_envs - 1.
        episodes: in all: the first of each, as evenly as they can be.
    """

    num_envs: int
    episodes: int

    def of(self, environment_index: int) -> int:
        """Those of one environment."""
        return self.episodes // self.num_envs + (environment_index < self.episodes % self.num_envs)


class EpisodeRecorder:
    """Watches the inference thread's batches, in that thread.

    Attributes:
        whole: episodes that were handed on.
        cut: episodes that were begun and never ended by themselves, or grew beyond all bounds.
        left_out: whole ones that nobody had room for.
        complete: set when a quota is met.
    """

    def __init__(
        self, slots: SlotTable, put: Callable[[Episode], bool], *, share: float = 1.0, quota: Quota | None = None
    ) -> None:
        """Begins with no episode.

        Args:
            slots: where rows are read.
            put: takes an episode; False where there is no room.
            share: of the episodes of each environment, spread evenly.
            quota: how many; None: as many as come.
        """
        self._table, self._put, self._share, self._quota = slots, put, share, quota
        self._row_bytes = sum(spec.row_bytes for spec in (*slots.spec.observations, *slots.spec.actions))
        self._environment = np.zeros(slots.num_slots, np.int64)
        self._task = np.zeros(slots.num_slots, np.int64)
        self._records = np.zeros(slots.num_slots, np.bool_)
        self._open: dict[int, _Open] = {}
        self._begun: Recent[int] = Recent(_MOST_ENVIRONMENTS)  # environment -> episodes
        self._ended: dict[int, int] = {}  # environment that a quota asks for -> real ones that are over
        self.whole, self.cut, self.left_out = 0, 0, 0
        self.complete = threading.Event()

    def begin(self, slots: NDArray[np.int64], environment_indices: Sequence[int], tasks: Sequence[int] = (0,)) -> None:
        """Slots have a new holder."""
        self._environment[slots] = environment_indices
        self._task[slots] = tasks

    def end(self, slots: NDArray[np.int64]) -> None:
        """The holder of these slots is gone, and the episodes it was in with it."""
        for slot in slots.tolist():
            self._drop(slot)

    def take(self, slots: NDArray[np.int64], ended: Collection[int], lost: Collection[int]) -> None:
        """Reads rows that have just been answered, before their actors hear of it.

        Args:
            slots: `[N]`, of a batch.
            ended: those whose row is the real end of an episode.
            lost: those whose environment broke.
        """
        step_type = self._table.step_type[slots]
        for slot in slots[step_type == StepType.FIRST].tolist():
            self._start(slot)
        chosen = slots[self._records[slots]]
        if len(chosen):
            self._copy(chosen, lost)
        for slot in ended:
            index = int(self._environment[slot])
            if self._quota is not None and index < self._quota.num_envs:
                self._ended[index] = self._ended.get(index, 0) + 1
        if ended and self._quota is not None and self._is_met(self._quota):
            self.complete.set()

    def close(self) -> None:
        """What is still open is cut."""
        for slot in list(self._open):
            self._drop(slot)

    def _start(self, slot: int) -> None:
        self._drop(slot)
        index = int(self._environment[slot])
        number = self._begun.add(index)
        wanted = self._quota is None or self._ended.get(index, 0) < self._quota.of(index)
        if wanted and (number * _GOLDEN_RATIO + index * _PLASTIC_RATIO) % 1.0 < self._share:
            self._records[slot] = True
            self._open[slot] = _Open()

    def _copy(self, slots: NDArray[np.int64], lost: Collection[int]) -> None:
        table = self._table
        observations = [array[slots] for array in table.observations]
        actions = [array[slots] for array in table.actions]
        rewards, discounts, step_type = table.reward[slots], table.discount[slots], table.step_type[slots]
        for row, slot in enumerate(slots.tolist()):
            if slot in lost:
                self._drop(slot)
                continue
            episode = self._open[slot]
            episode.observations.append(tuple(array[row] for array in observations))
            if step_type[row] != StepType.FIRST:
                episode.rewards.append(float(rewards[row]))
            if step_type[row] == StepType.LAST:
                self._finish(slot, terminated=discounts[row] == 0)
                continue
            episode.actions.append(tuple(array[row] for array in actions))
            if len(episode.actions) * self._row_bytes > _MOST_BYTES:
                self._drop(slot)

    def _finish(self, slot: int, *, terminated: bool) -> None:
        self._records[slot] = False
        rows = self._open.pop(slot)
        episode = Episode(
            environment_index=int(self._environment[slot]),
            task=int(self._task[slot]),
            observations=tuple(map(np.stack, zip(*rows.observations, strict=True))),
            actions=tuple(map(np.stack, zip(*rows.actions, strict=True))),
            rewards=np.array(rows.rewards, np.float32),
            terminated=bool(terminated),
        )
        if self._put(episode):
            self.whole += 1
        else:
            self.left_out += 1

    def _drop(self, slot: int) -> None:
        self._records[slot] = False
        if self._open.pop(slot, None) is not None:
            self.cut += 1

    def _is_met(self, quota: Quota) -> bool:
        return all(self._ended.get(index, 0) >= quota.of(index) for index in range(quota.num_envs))
