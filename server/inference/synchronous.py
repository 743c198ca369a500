"""The inference thread's loop for synchronous algorithms: acting and learning take turns, and the policy lag is 0.

An unroll's last observation is the next one's first. The learner needs it, and its action is due only after the update.
So a request that completes unrolls is stored, handed to the learner and *held*: it is answered when the parameters that
were learnt from it are there, and begins the next unroll. All other requests are answered at once, as always.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seedbed.server.inference.leases import Lease
from seedbed.server.inference.rounds import Rounds
from seedbed.server.inference.service import InferenceService, slots_of
from seedbed.server.inference.sinks import UnrollSink

SETTLE_S = 5.0
"""Clients of one machine come within seconds of each other; a fleet smaller than the server's rows loses these once."""


class RoundSink(UnrollSink, Protocol):
    """Where finished unrolls go, and where one waits for what is learnt from them."""

    def close(self, slots: NDArray[np.int64]) -> None:
        """Takes open unrolls whose last row comes again, once it is answered, as the first of the next."""

    def withdraw(self, slots: NDArray[np.int64]) -> None:
        """Takes what is worth taking of open unrolls whose lease goes on, in another round."""

    def rejoin(self, slots: NDArray[np.int64]) -> None:
        """The next row of these withdrawn slots is there; the transition to it is in no unroll."""

    def learn(self) -> None:
        """Waits until the learner has published what it learnt from all unrolls taken so far."""


class SynchronousService(InferenceService):
    """Answers in rounds, see `Rounds`."""

    def __init__(
        self,
        *,
        sink: RoundSink,
        num_rows: int,
        num_envs: int,
        patience_s: float,
        settle_s: float = SETTLE_S,
        **parts: Any,
    ) -> None:
        """Takes the parts of `InferenceService`, and more.

        Args:
            sink: where unrolls go.
            num_rows: L of an unroll.
            num_envs: rows that the first round waits for.
            patience_s, settle_s: see `Rounds`.
            **parts: see the base class.
        """
        super().__init__(sink=sink, **parts)
        self._rounds = Rounds(patience_s, min(patience_s, settle_s))
        self._rounds_sink = sink
        self._num_rows = num_rows
        self._num_envs = num_envs
        self._position: dict[int, int] = {}  # rows that a member has been answered in this round
        self._withdrawn: set[int] = set()

    def turn(self, timeout_s: float) -> None:
        """See the base class; and whenever a round is over, learns and begins the next."""
        super().turn(timeout_s)
        while not self.stopping and self._is_round_over(live := self._live()):
            self._end_round()
            self._begin_round(live)
            super().turn(0.0)

    def _is_round_over(self, live: set[int]) -> bool:
        waiting = sum(lease.num_rows for lease in self.leases.all() if self._rounds.is_waiting(lease.first))
        return self._rounds.is_over(live, self._clock(), all_here=waiting >= self._num_envs)

    def _request(self, lease: Lease, now_s: float) -> None:
        first = lease.first
        if not self._rounds.ask(first, now_s):
            return
        if self._position[first] == self._num_rows - 1 or self._holds_up_its_client(lease):
            self._inference.bootstrap(slots_of(lease))
            self._rounds_sink.close(slots_of(lease))
            self._rounds.wait(first)
            return
        self._position[first] += 1
        super()._request(lease, now_s)

    def _holds_up_its_client(self, lease: Lease) -> bool:
        """Whether another lease of the same process waits, so that the process will ask for nothing more.

        A client steps its groups in turn and stands still while one of them is held. Its groups are a row apart at
        most, unless one of them joined in the midst of a round; then the unroll of the other ends early, once.
        """
        return self._rounds.num_waiting > 0 and any(
            _run_of(other) == _run_of(lease) and self._rounds.is_waiting(other.first) for other in self.leases.all()
        )

    def _end_round(self) -> None:
        """Members that are not expected any more leave with what they have; then all wait for the learner."""
        for first in self._rounds.members:
            lease = self._lease(first)
            asks = first in self._batcher
            self._batcher.discard(first)
            self._rounds.forget(first)
            self._withdrawn.add(first)
            self._rounds_sink.withdraw(slots_of(lease))
            if asks:
                self._rounds.ask(first, self._clock())
        handed_over_s = self._clock()
        self.vitals["hands_over"] = 1
        self._rounds_sink.learn()
        self.vitals["hands_over"] = 0
        self.vitals.observe("back_pressure", self._clock() - handed_over_s)

    def _begin_round(self, live: set[int]) -> None:
        now_s = self._clock()
        for first in self._rounds.begin(live, now_s):
            lease = self._lease(first)
            if first in self._withdrawn:
                self._withdrawn.remove(first)
                self._rounds_sink.rejoin(slots_of(lease))
            self._position[first] = 1
            super()._request(lease, now_s)

    def _end(self, lease: Lease) -> None:
        self._rounds.forget(lease.first)
        self._withdrawn.discard(lease.first)
        super()._end(lease)

    def _awaited_rows(self) -> int:
        members = map(self._lease, self._rounds.members)
        return sum(lease.num_rows for lease in members if lease.stream is not None)

    def _live(self) -> set[int]:
        """Leases whose client can go on: it has lost the stream of none of them."""
        leases = self.leases.all()
        stuck = {_run_of(lease) for lease in leases if lease.stream is None}
        return {lease.first for lease in leases if _run_of(lease) not in stuck}


def _run_of(lease: Lease) -> tuple[str, int]:
    """The process that holds a lease."""
    return lease.key.client_id, lease.key.run_id
