"""Source: what stands between the inference thread, which puts unrolls in, and the learner, which gets train batches.

A queue, a queue of rounds and a replay differ in when there is room, when there is a batch, and what is in it. How the
two threads wait for one another is the same for all of them and stands here alone.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

from torch import Tensor

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.unroll import Provenance


class Empty(Enum):
    """Why there is no train batch: none is complete yet, or there will never be one again."""

    NOT_YET = "not yet"
    CLOSED = "closed"


class Contents(Protocol):
    """What a run may save of a source, beside its checkpoint."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The unrolls, by a name that is stable."""

    def get_state(self) -> dict[str, Any]:
        """Everything else, as JSON can hold it; while nobody puts or gets."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The inverse, before anybody puts or gets; `tensors` must have their contents already."""

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError, TypeError or KeyError where that is no state of such a source; changes nothing."""


class Source(ABC):
    """Written by one thread and read by one other."""

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._closed = False

    @abstractmethod
    def __len__(self) -> int:
        """Unrolls that it holds."""

    def put(self, open_unrolls: OpenUnrolls, sources: Sequence[Provenance]) -> int:
        """Copies open unrolls in, waiting for room as long as it takes.

        Args:
            open_unrolls: where they are.
            sources: their provenance, which names their slots.

        Returns:
            How many went in: fewer than asked only when the source was closed.
        """
        done = 0
        while done < len(sources) and self._wait(lambda: self._room() > 0, None):
            part = sources[done : done + self._room()]
            self._insert(open_unrolls, part)
            done += len(part)
        return done

    def get(self, size: int, timeout_s: float | None = None) -> TrainBatch | Empty:
        """Takes the next train batch.

        Args:
            size: B.
            timeout_s: how long to wait for it; None: as long as it takes.

        Returns:
            The batch, or why there is none.
        """
        if self._wait(lambda: self._may_take(size), timeout_s):
            return self._take(size)
        return Empty.CLOSED if self._closed else Empty.NOT_YET

    def close(self) -> None:
        """Wakes both sides; from now on nothing waits."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()

    def update_priorities(self, batch: TrainBatch, priorities: Tensor) -> None:
        """What the unrolls of a batch are worth now, `[B]`: for a source that has priorities."""
        raise NotImplementedError(f"expected an algorithm without priorities, {type(self).__name__} has none")

    @property
    def contents(self) -> Contents | None:
        """What may be saved; None: nothing is worth it."""
        return None

    @abstractmethod
    def drain(self) -> list[Provenance]:
        """Forgets the unrolls that never reached the learner and says what they were: for the account at shutdown."""

    @abstractmethod
    def metrics(self) -> Mapping[str, float]:
        """For the log."""

    @abstractmethod
    def _room(self) -> int:
        """How many unrolls may be put in now; only what the reader does makes it more."""

    @abstractmethod
    def _may_take(self, size: int) -> bool:
        """Whether a batch may be taken now; only the reader makes it untrue again."""

    @abstractmethod
    def _insert(self, open_unrolls: OpenUnrolls, sources: Sequence[Provenance]) -> None:
        """Copies in as many unrolls as there is room for (inference thread)."""

    @abstractmethod
    def _take(self, size: int) -> TrainBatch:
        """The batch that may be taken (learner thread)."""

    def _wait(self, condition: Callable[[], bool], timeout_s: float | None) -> bool:
        """Whether a condition came true within the time, before the source was closed."""
        with self._moved:
            self._moved.wait_for(lambda: self._closed or condition(), timeout_s)
            return not self._closed and condition()
