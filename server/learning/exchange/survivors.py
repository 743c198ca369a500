"""Survivors of a gossip: learners that find one another again, without those that have died.

A process group of gloo is of no use once a member is gone, so whoever notices says in the store that it is here, waits
for the others a while, and the first to have waited says who goes on: a list that is written once, and holds for all.
Whoever comes later, having stood still, say, is not on it, and ends.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence

from torch import distributed as dist

from seedbed.common.errors import PeerLostError
from seedbed.server.learning.exchange.link import Link

logger = logging.getLogger(__name__)

SETTLE_S = 5.0
"""A death is noticed within 0.1 s, one that stands still by all at once: they began to wait at one meeting."""

_POLL_S = 0.05


class Survivors:
    """One learner's part in it.

    Attributes:
        members: ranks of the learners that are linked.
    """

    def __init__(self, link: Link, settle_s: float = SETTLE_S) -> None:
        """All are here.

        Args:
            link: of all; only how it was made is kept, so that it can go.
            settle_s: how long to wait for others that have noticed.
        """
        self.members: Sequence[int] = range(link.world)
        self._rank = link.rank
        self._made = link.made
        self._settle_s = settle_s
        self._generation = 0

    def find(self, reason: PeerLostError) -> Link:
        """A link between those that are left; this may take a while.

        Args:
            reason: the one that was has ended.

        Raises:
            PeerLostError: the first learner, which writes the run, is not among them, or this one was given up.
        """
        while True:
            self._generation += 1
            store = dist.PrefixStore(f"survivors-{self._generation}", self._made.store)
            self.members = self._agree(store)
            if self._rank not in self.members or 0 not in self.members:
                raise reason
            logger.warning(
                "going on with learner%s %s: %s",
                "" if len(self.members) == 1 else "s",
                ", ".join(map(str, self.members)),
                reason,
            )
            try:
                return Link(
                    store,
                    self.members.index(self._rank),
                    len(self.members),
                    loopback=self._made.loopback,
                    timeout_s=self._made.timeout_s,
                )
            except PeerLostError as error:  # another one has died meanwhile
                reason = error

    def _agree(self, store: dist.Store) -> Sequence[int]:
        """The members that go on."""
        store.set(f"here-{self._rank}", "1")
        deadline_s = time.monotonic() + self._settle_s
        here: list[int] = []
        while time.monotonic() < deadline_s and len(here) < len(self.members) and not store.check(["decided"]):
            time.sleep(_POLL_S)
            here = [rank for rank in self.members if store.check([f"here-{rank}"])]
        decided = store.compare_set("decided", "", json.dumps(here))
        return [int(rank) for rank in json.loads(bytes(decided))]
