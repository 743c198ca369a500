"""Gossip (GALA, Assran et al. 2019, arXiv 1906.04585): nobody waits for the slowest, and policies stay close.

Each learner makes its own updates with its own optimiser. After the last step of one, before it is published, it sends
its parameters to the next learner of a ring and becomes the mean of itself and the newest that has come from the one
before, if anything has. With steps of bounded size all of them stay within a ball whose size goes with the learning
rate. Optimisers, versions and policies are each learner's own; totals and the end are agreed beside, twice a second.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from seedbed.common.errors import PeerLostError, SeedbedError
from seedbed.common.logs import name_thread
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.source import Empty
from seedbed.server.learning.exchange.interface import Exchange, Get
from seedbed.server.learning.exchange.link import Link
from seedbed.server.learning.exchange.meeting import Standing
from seedbed.server.learning.exchange.meetings import Meetings
from seedbed.server.learning.exchange.mixture import Mixture
from seedbed.server.learning.exchange.ring import Ring

_LOOK_UP_S = 0.5
_MEETING_S = 0.5


class Gossip(Exchange):
    """Among `link.world` learners.

    Attributes:
        meetings: for totals and the end.
    """

    mixes = True

    def __init__(self, link: Link, max_age: int | None = None) -> None:
        """Begins; threads start with the first turn.

        Args:
            link: to the others.
            max_age: updates without news from the one before, after which this learner waits for some; None: never.
        """
        self.rank, self.world = link.rank, link.world
        self.meetings = Meetings(link)
        self._link = link
        self._max_age = max_age
        self._mixture: Mixture | None = None
        self._ring: Ring | None = None
        self._age = 0
        self._batches = 0
        self._ended = threading.Event()
        self._failure: SeedbedError | None = None
        self._meets = threading.Thread(target=self._meet, name="meetings", daemon=True)

    def prepare(self, mixture: Mixture) -> None:
        """Says what is mixed; on all learners alike, before the first turn."""
        self._mixture = mixture
        self._ring = Ring(self._link, mixture.size)

    def turn(self, get: Get) -> TrainBatch | Empty:
        """The next batch of its own, until all have agreed to end."""
        assert self._ring is not None
        if self._meets.ident is None:
            self._ring.start()
            self._meets.start()
        while not self._ended.is_set():
            self._check()
            batch = get(_LOOK_UP_S)
            if batch is Empty.CLOSED:
                return batch
            if isinstance(batch, Empty):
                continue
            if not self._ended.is_set():
                self._batches += 1
                return batch
            self.unused += batch.num_transitions
        self._check()
        self._meets.join()
        self._ring.leave()
        with contextlib.suppress(PeerLostError):
            self._link.wait_for_all()
        return Empty.CLOSED

    def gradients(
        self, parameters: Sequence[nn.Parameter], weight: Tensor | None, *, mean: bool
    ) -> Mapping[str, Tensor] | None:
        """They stay as they are."""
        return None if weight is None else {}

    def moments(self, given: Mapping[str, Tensor], zeros: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """They stay as they are."""
        return given

    def mix(self, learnt: nn.Module) -> Mapping[str, Tensor]:
        """Sends itself on, and becomes the mean of itself and the newest that has come."""
        assert self._mixture is not None
        assert self._ring is not None
        self._ring.post(self._mixture.message())
        self._age += 1
        message = self._ring.take()
        while message is None and self._max_age is not None and self._age > self._max_age and not self._ended.is_set():
            self._check()
            message = self._ring.take(_LOOK_UP_S)
        if message is None:
            return {}
        metrics = {
            "gossip_age_max": torch.tensor(float(self._age)),
            "gossip_distance": self._mixture.mix(message, learnt),
        }
        self._age = 0
        return metrics

    def _check(self) -> None:
        """Raises what a thread has met with."""
        failure = self._failure or (self._ring.failure if self._ring is not None else None)
        if failure is not None:
            raise failure

    def _meet(self) -> None:
        name_thread("meetings")
        try:
            while not self._ended.wait(_MEETING_S):
                reports = self.meetings.meet(Standing.BATCH, self._batches)
                if any(report.stop for report in reports):
                    self._ended.set()
        except SeedbedError as error:
            self._failure = error
            self._ended.set()
