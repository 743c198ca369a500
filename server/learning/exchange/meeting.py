"""Meetings: what learners tell one another before each update, so that all decide alike from the same numbers.

Each tells numbers about itself, counted since it started, and what has happened in its environments since the last
meeting. Sums over all learners are worked out by each of them in the same order and in float64, so they have equal
bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

MAX_ROOM = 1000
"""Events that one meeting takes of a learner; the others wait for the next one."""


class Standing(IntEnum):
    """What a learner brings to the next update."""

    WAITS = 0  # no batch yet: nobody makes an update before it has one, or its patience is over
    WITHOUT = 1  # nothing: the others need not wait
    BATCH = 2


class Stop(IntEnum):
    """Why a learner wants to end the run."""

    NONE = 0
    ASKED = 1  # by a signal: it goes on when it is started again
    REACHED = 2  # a stop condition


class Report(NamedTuple):
    """Numbers of a replica since it started; all of them floats on their way.

    Attributes:
        standing, stop: see above.
        pending: events that this meeting had no room for.
        updates, checksum: of the parameters after so many updates, the newest that were looked at.
        agent_steps: answered rows that were not LAST.
        consumed: transitions in its train batches.
        live_rows: environments that are connected.
        batches: updates that it had a batch for.
        wait_s: time that it waited for the others.
        away_s: the longest time that the others might have had to wait for it.
        loss, lag_max: as last logged.
    """

    standing: float = Standing.WAITS
    stop: float = Stop.NONE
    pending: float = 0.0
    updates: float = 0.0
    checksum: float = 0.0
    agent_steps: float = 0.0
    consumed: float = 0.0
    live_rows: float = 0.0
    batches: float = 0.0
    wait_s: float = 0.0
    away_s: float = 0.0
    loss: float = 0.0
    lag_max: float = 0.0


class Event(NamedTuple):
    """What has happened in an environment that counts.

    Attributes:
        kind: "joined", "left", "lost" or "ended", as its place among `KINDS`.
        environment: its index.
        episode_return, steps, frames: of an episode that has ended.
    """

    kind: float
    environment: float
    episode_return: float = 0.0
    steps: float = 0.0
    frames: float = 0.0


KINDS = ("joined", "left", "lost", "ended")


class Told(NamedTuple):
    """What one learner told."""

    report: Report
    events: Sequence[Event]


class Floor(Protocol):
    """Where a learner's replica keeps what it tells, and takes what it hears."""

    def tell(self, room: int) -> Told:
        """The newest numbers, and at most so many events, oldest first."""

    def hear(self, told: Sequence[Told]) -> None:
        """What all learners told, by rank; one that is gone tells the last it told, without environments."""

    def miss(self, rank: int) -> None:
        """A learner is gone, and the others go on."""


class Silence:
    """A floor with nothing to tell."""

    def tell(self, room: int) -> Told:
        """See `Floor`."""
        return Told(Report(), ())

    def hear(self, told: Sequence[Told]) -> None:
        """See `Floor`."""

    def miss(self, rank: int) -> None:
        """See `Floor`."""


def to_row(told: Told, room: int) -> Tensor:
    """As it goes to the others: float64, of a size that the room alone decides."""
    width = len(Event._fields)
    row = torch.zeros(len(Report._fields) + 1 + room * width, dtype=torch.float64)
    numbers = [*told.report, len(told.events), *(number for event in told.events for number in event)]
    row[: len(numbers)] = torch.tensor(numbers, dtype=torch.float64)
    return row


def from_row(row: Tensor) -> Told:
    """The inverse."""
    numbers, size, width = row.tolist(), len(Report._fields), len(Event._fields)
    report, count = Report(*numbers[:size]), int(numbers[size])
    flat = numbers[size + 1 : size + 1 + count * width]
    return Told(report, [Event(*flat[place : place + width]) for place in range(0, len(flat), width)])
