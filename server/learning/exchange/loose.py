"""Learners that do not wait for one another: each makes its own updates, and totals and the end are agreed beside."""

from __future__ import annotations

import contextlib
import threading
from abc import abstractmethod

from seedbed.common.errors import PeerLostError, SeedbedError
from seedbed.common.logs import name_thread
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.source import Empty
from seedbed.server.learning.exchange.interface import Exchange, Get
from seedbed.server.learning.exchange.link import Link
from seedbed.server.learning.exchange.meeting import Standing
from seedbed.server.learning.exchange.meetings import Meetings

LOOK_UP_S = 0.5
_MEETING_S = 0.5


class Loose(Exchange):
    """Base of exchanges whose learners meet twice a second, in a thread.

    Attributes:
        meetings: for totals and the end.
    """

    def __init__(self, link: Link) -> None:
        """Begins; threads start with the first turn."""
        self.rank, self.world = link.rank, link.world
        self.meetings = Meetings(link)
        self._link = link
        self._batches = 0
        self._ended = threading.Event()
        self._failure: SeedbedError | None = None
        self._meets = threading.Thread(target=self._meet, name="meetings", daemon=True)

    def turn(self, get: Get) -> TrainBatch | Empty:
        """The next batch of its own, until all have agreed to end."""
        if self._meets.ident is None:
            self._begin()
            self._meets.start()
        while not self._ended.is_set():
            self.check()
            batch = get(LOOK_UP_S)
            if batch is Empty.CLOSED:
                return batch
            if isinstance(batch, Empty):
                continue
            if not self._ended.is_set():
                self._batches += 1
                return batch
            self.unused += batch.num_transitions if batch.sample is None else 0
        self.check()
        self._meets.join()
        with contextlib.suppress(PeerLostError):
            self._leave()
            self._link.wait_for_all()
        return Empty.CLOSED

    def check(self) -> None:
        """Raises what a thread has met with."""
        if self._failure is not None:
            raise self._failure

    @abstractmethod
    def _begin(self) -> None:
        """Before the first turn."""

    @abstractmethod
    def _leave(self) -> None:
        """All have agreed to end, and meet no more."""

    def _go_on(self, reason: PeerLostError) -> None:
        """Another learner is gone, which ends this one, too, unless said otherwise."""
        raise reason

    def _fail(self, error: SeedbedError) -> None:
        """A thread has met with this: the next turn raises it."""
        self._failure = self._failure or error
        self._ended.set()

    def _meet(self) -> None:
        name_thread("meetings")
        try:
            while not self._ended.wait(_MEETING_S):
                try:
                    reports = self.meetings.meet(Standing.BATCH, self._batches)
                except PeerLostError as error:
                    self._go_on(error)
                    continue
                if any(report.stop for report in reports):
                    self._ended.set()
        except SeedbedError as error:
            self._fail(error)
