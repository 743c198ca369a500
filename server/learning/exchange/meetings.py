"""Meetings held: one learner's part in them, see `meeting.py` for what is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seedbed.common.errors import DivergedError
from seedbed.server.learning.exchange.link import Link
from seedbed.server.learning.exchange.meeting import (
    MAX_ROOM,
    Floor,
    Report,
    Silence,
    Standing,
    Stop,
    Told,
    from_row,
    to_row,
)

_FIRST_ROOM = 64


class Meetings:
    """Of one learner with the others; held by one thread.

    Attributes:
        floor: what this learner tells and where it is heard; to be set before the first one.
        checksum: tells parameters that must be equal from others: after how many updates, and what it is.
    """

    def __init__(self, link: Link) -> None:
        """Holds none yet."""
        self.floor: Floor = Silence()
        self.checksum: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self._link = link
        self._room = _FIRST_ROOM
        self._members: Sequence[int] = range(link.world)
        self._reports = [Report()] * link.world

    def go_on(self, link: Link, members: Sequence[int]) -> None:
        """Without those that are gone.

        Args:
            link: to the others that are left.
            members: the ranks of its learners.
        """
        for rank in set(self._members) - set(members):
            self.floor.miss(rank)
            self._reports[rank] = self._reports[rank]._replace(stop=Stop.NONE, pending=0.0, live_rows=0.0)
        link.wait_s += self._link.wait_s  # told since the start
        self._link, self._members = link, members

    def meet(self, standing: Standing, batches: int) -> Sequence[Report]:
        """Tells and hears; returns what all of them told, in their order.

        Args:
            standing: what this learner brings.
            batches: updates that it had a batch for.

        Raises:
            PeerLostError: another learner is gone.
            DivergedError: parameters that must be equal are not.
        """
        self._link.begin()
        told = self.floor.tell(self._room)
        updates, checksum = self.checksum()
        report = told.report._replace(
            standing=float(standing),
            updates=updates,
            checksum=checksum,
            batches=float(batches),
            wait_s=self._link.wait_s,
            away_s=self._link.away_s,
        )
        heard = [from_row(row) for row in self._link.gather(to_row(Told(report, told.events), self._room))]
        reports = [one.report for one in heard]
        for rank, one in zip(self._members, reports, strict=True):
            self._reports[rank] = one
        self._link.bear(max(one.away_s for one in reports))
        self._room = min(MAX_ROOM, max(_FIRST_ROOM, *(int(one.pending) for one in reports)))
        if len({(one.updates, one.checksum) for one in reports}) > 1:
            raise DivergedError(
                "expected equal parameters of all learners, got "
                + ", ".join(f"{int(one.checksum):x} after {int(one.updates)} updates" for one in reports)
            )
        events = dict(zip(self._members, heard, strict=True))
        self.floor.hear([events.get(rank, Told(report, ())) for rank, report in enumerate(self._reports)])
        return reports
