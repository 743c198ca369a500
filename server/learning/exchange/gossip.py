"""Gossip (GALA, Assran et al. 2019, arXiv 1906.04585): nobody waits for the slowest, and policies stay close.

Each learner makes its own updates with its own optimiser. After the last step of one, before it is published, it sends
its parameters to the next learner of a ring and becomes the mean of itself and the newest that has come from the one
before, if anything has. With steps of bounded size all of them stay within a ball whose size goes with the learning
rate. Optimisers, versions and policies are each learner's own. When one dies the others go on, in a ring without it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seedbed.common.errors import PeerLostError
from seedbed.server.learning.exchange.link import Link
from seedbed.server.learning.exchange.loose import LOOK_UP_S, Loose
from seedbed.server.learning.exchange.mixture import Mixture
from seedbed.server.learning.exchange.ring import Ring
from seedbed.server.learning.exchange.survivors import SETTLE_S, Survivors


class Gossip(Loose):
    """Among `link.world` learners."""

    mixes = True

    def __init__(self, link: Link, max_age: int | None = None, settle_s: float = SETTLE_S) -> None:
        """Begins; threads start with the first turn.

        Args:
            link: to the others.
            max_age: updates without news from the one before, after which this learner waits for some; None: never.
            settle_s: see `Survivors`.
        """
        super().__init__(link)
        self._max_age = max_age
        self._mixture: Mixture | None = None
        self._ring: Ring | None = None  # None, or one that has failed: alone until survivors have found one another
        self._survivors = Survivors(link, settle_s)
        self._age = 0
        self._mixed: Tensor | None = None  # parameters, as functions, after the last mix or update

    def prepare(self, mixture: Mixture) -> None:
        """Says what is mixed; on all learners alike, before the first turn."""
        self._mixture = mixture
        self._ring = Ring(self._link, mixture.size)

    def mix(self, learnt: nn.Module) -> Mapping[str, Tensor]:
        """Sends itself on, and becomes the mean of itself and the newest that has come."""
        assert self._mixture is not None
        ours, ring = self._mixture.message(), self._ring
        metrics = self._step_norm(self._mixture.parameters(ours))
        self._age += 1
        message = None
        if ring is not None:
            ring.post(ours)
            message = ring.take()
            while message is None and self._waits_for(ring):
                self.check()
                message = ring.take(LOOK_UP_S)
        if message is None:
            return metrics
        distance = self._mixture.mix(message, learnt)
        self._mixed = self._mixture.parameters((ours + message) / 2)
        metrics |= {
            "gossip_age_max": torch.tensor(float(self._age)),
            "gossip_distance": distance,
            "gossip_distance_max": distance,
        }
        self._age = 0
        return metrics

    def _step_norm(self, parameters: Tensor) -> dict[str, Tensor]:
        """How far this update has moved them by itself; how far learners are apart is bounded by it."""
        before, self._mixed = self._mixed, parameters
        return {} if before is None else {"gossip_step_norm_max": (parameters - before).norm()}

    def _waits_for(self, ring: Ring) -> bool:
        """Whether news are due, and may come."""
        is_due = self._max_age is not None and self._age > self._max_age
        return is_due and not self._ended.is_set() and ring is self._ring and ring.failure is None

    def _begin(self) -> None:
        assert self._ring is not None
        self._ring.start()

    def _go_on(self, reason: PeerLostError) -> None:
        """With those that are left; meanwhile the learner goes on alone."""
        if self._ring is not None:
            self._ring.abandon()
        self._ring = None
        while True:
            link = self._survivors.find(reason)
            try:
                ring = self._ring_of(link)
                break
            except PeerLostError as error:
                reason = error
        self.meetings.go_on(link, self._survivors.members)
        self._link, self._ring, self._age = link, ring, 0

    def _ring_of(self, link: Link) -> Ring | None:
        """A new one, which runs; None: there is nobody else."""
        if link.world == 1:
            return None
        assert self._mixture is not None
        ring = Ring(link, self._mixture.size)
        ring.start()
        return ring

    def _leave(self) -> None:
        if self._ring is not None:
            self._ring.leave()
