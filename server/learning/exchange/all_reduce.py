"""All-reduce: every optimiser step is one of all learners' batches together, and all parameters stay equal.

Before each update the learners meet. An update is made when each of them has a train batch, or has done without one
for as long as its patience: then it walks through the steps with weight 0. Every decision, to end as well, is made of
what was told at the meeting, and so is the same for all. Synchronous gradients of several learners: IMPALA, Espeholt et
al. 2018 (arXiv 1802.01561), section 3.1.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from seedbed.common.errors import PeerLostError
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.source import Empty
from seedbed.server.learning.exchange.flat import FlatGradients, flattened, unflattened
from seedbed.server.learning.exchange.interface import Exchange, Get
from seedbed.server.learning.exchange.link import Link
from seedbed.server.learning.exchange.meeting import Report, Standing
from seedbed.server.learning.exchange.meetings import Meetings

_LOOK_UP_S = 1.0  # a learner that waits for its batch says so this often: nobody is stuck, and totals are fresh
_NOBODY_S = 0.5  # where none of them has a batch


class AllReduce(Exchange):
    """Among `link.world` learners.

    Attributes:
        meetings: before each update.
        waits: whether its patience stands still: asked while it has no batch.
        batches: updates that it had a batch for.
    """

    joint = True

    def __init__(self, link: Link, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins; all learners have the same parameters by now.

        Args:
            link: to the others.
            patience_s: how long the others wait for a batch of this one.
            clock: for tests.
        """
        self.rank, self.world = link.rank, link.world
        self.meetings = Meetings(link)
        self.waits: Callable[[], bool] = lambda: False
        self.batches = 0
        self._link = link
        self._patience_s = patience_s
        self._clock = clock
        self._flat: dict[tuple[int, ...], FlatGradients] = {}
        self._asked_s: float | None = None  # when it began to wait for the batch that it waits for
        self._nobody_has = True

    def turn(self, get: Get) -> TrainBatch | Empty:
        """Meets the others until they make an update together, or end."""
        if self._asked_s is None:
            self._asked_s = self._clock()
        held: TrainBatch | None = None
        while True:
            if held is None:
                got = get(self._look_up_s())
                if got is Empty.CLOSED:
                    return Empty.CLOSED
                held = None if isinstance(got, Empty) else got
            reports = self._meet(held)
            if any(report.stop for report in reports):
                self.unused += 0 if held is None or held.sample is not None else held.num_transitions
                with contextlib.suppress(PeerLostError):  # whoever left now would end the meeting of slower ones
                    self._link.wait_for_all()
                return Empty.CLOSED
            standings = {report.standing for report in reports}
            self._nobody_has = Standing.BATCH not in standings
            if Standing.WAITS not in standings and not self._nobody_has:
                break
        if held is None:
            return Empty.NOT_YET
        self._asked_s = None
        self.batches += 1
        return held

    def _look_up_s(self) -> float:
        """How long to wait for a batch before the next meeting.

        A learner that does without keeps nobody waiting who has one, and does not spin where nobody has.
        """
        if self._is_starved():
            return _NOBODY_S if self._nobody_has else 0.0
        return min(_LOOK_UP_S, self._patience_s)

    def _is_starved(self) -> bool:
        """Whether it has waited for a batch longer than its patience."""
        assert self._asked_s is not None
        return self._clock() - self._asked_s >= self._patience_s and not self.waits()

    def _meet(self, held: TrainBatch | None) -> Sequence[Report]:
        standing = Standing.BATCH if held is not None else Standing.WITHOUT if self._is_starved() else Standing.WAITS
        return self.meetings.meet(standing, self.batches)

    def gradients(
        self, parameters: Sequence[nn.Parameter], weight: Tensor | None, *, mean: bool
    ) -> Mapping[str, Tensor] | None:
        """One all-reduce; see the base class."""
        key = tuple(map(id, parameters))
        if key not in self._flat:
            self._flat[key] = FlatGradients(parameters)
        flat = self._flat[key]
        flat.fill(weight, mean=mean)
        self._link.sum(flat.buffer)
        # Only a host is asked: elsewhere the answer would wait for the device, and a gradient of 0 does as well.
        if flat.buffer.device.type == "cpu" and not flat.holders:
            return None
        flat.give_back(mean=mean)
        return {"replica_rejected": flat.rejected.clone()}

    def moments(self, given: Mapping[str, Tensor], zeros: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """One all-reduce, none for an algorithm without moments; see the base class."""
        expected = zeros()
        flat = flattened(given, expected)
        if not len(flat):
            return {}
        self._link.sum(flat)
        return unflattened(flat, expected)
