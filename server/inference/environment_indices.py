"""Who holds which environment indices, and which are chosen for clients that name none. Pure bookkeeping."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Protocol

from seedbed.common.errors import CapacityError, IndexTakenError, InvalidMessageError
from seedbed.server.options.task_plan import TaskPlan

logger = logging.getLogger(__name__)

_TAKEN = (
    "environment index {} is held by another client: give every client its own --first-index, or none at all to let "
    "the server choose"
)


class Holder(Protocol):
    """A lease that holds environment indices."""

    @property
    def environment_indices(self) -> Sequence[int]:
        """Of its rows."""

    @property
    def is_live(self) -> bool:
        """Whether its client is there; one that is away may come back to them."""

    @property
    def who(self) -> str:
        """For the log alone: with the name anybody with a token could take its place."""


class EnvironmentIndices:
    """The indices of all environments of a server; each has one holder at most."""

    def __init__(self, choice: range | None = None) -> None:
        """Nobody holds any.

        Args:
            choice: indices that are chosen for clients; None: any.
        """
        self._choice = choice
        self._holders: dict[int, Holder] = {}
        self._kept: Collection[int] = ()
        self._kept_for: Collection[str] = ()

    def keep(self, indices: Collection[int], clients: Collection[str]) -> None:
        """Gives indices to nobody but these clients, there or not: before anybody has one."""
        self._kept, self._kept_for = indices, clients

    def choose(self, wishes: Sequence[int], tasks: Sequence[int], plan: TaskPlan) -> list[int]:
        """An index for each row of a lease to come: its wish if nobody has it, or else the lowest free.

        Args:
            wishes: of each row.
            tasks: of each row; of several tasks each has indices of its own. Empty: there is one.
            plan: says which.
        """
        chosen: dict[int, None] = {}
        start = 0 if self._choice is None else self._choice.start
        free = {
            task: (start + place for place in plan.indices_of(task) if self._is_free(start + place, wishes))
            for task in set(tasks) or {0}
        }
        for wish, task in zip(wishes, tasks or [0] * len(wishes), strict=True):
            taken = wish in self._holders or wish in chosen or wish in self._kept or not self._is_ours(wish)
            if taken or plan.task_of(wish - start) != task:
                wish = next(free[task])
            chosen[wish] = None
        return list(chosen)

    def check(self, indices: Sequence[int], client_id: str) -> None:
        """Refuses what a client may not have.

        Raises:
            InvalidMessageError: an index is named twice.
            IndexTakenError: a live lease holds one of them, or it is kept for another client.
            CapacityError: a lease in grace holds one of them.
        """
        if len(set(indices)) < len(indices):
            raise InvalidMessageError(f"expected environment indices that differ, got {list(indices)}")
        for index in indices:
            if index in self._kept and client_id not in self._kept_for:
                raise IndexTakenError(_TAKEN.format(index))
            holder = self._holders.get(index)
            if holder is None:
                continue
            logger.info("environment index %d is held by %s", index, holder.who)
            if not holder.is_live:
                raise CapacityError(
                    f"environment index {index} is held by a client that is away: wait, or choose another"
                )
            raise IndexTakenError(_TAKEN.format(index))

    def give(self, holder: Holder) -> None:
        """Its indices, which have been checked, are its own from now on."""
        self._holders |= dict.fromkeys(holder.environment_indices, holder)

    def free(self, holder: Holder) -> None:
        """Nobody holds its indices any more."""
        for index in holder.environment_indices:
            del self._holders[index]

    def check_valid(self, holders: Collection[Holder]) -> None:
        """Asserts that these hold their own indices, and nobody else any; for tests."""
        assert sorted(self._holders) == sorted(index for holder in holders for index in holder.environment_indices)
        assert all(index in holder.environment_indices for index, holder in self._holders.items())

    def _is_free(self, index: int, wishes: Sequence[int]) -> bool:
        return index not in self._holders and index not in wishes and index not in self._kept

    def _is_ours(self, index: int) -> bool:
        """Whether it may be chosen here: another replica's environments would come twice."""
        return self._choice is None or index in self._choice
