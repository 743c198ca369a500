"""Exchange of a learner that is the only one."""

from __future__ import annotations

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.source import Empty
from seedbed.server.learning.exchange.interface import Exchange, Get

_LOOK_UP_S = 1.0  # how long to wait for a batch before looking up


class Alone(Exchange):
    """Shares nothing; costs nothing."""

    def turn(self, get: Get) -> TrainBatch | Empty:
        """Waits for a batch as long as it takes."""
        while (batch := get(_LOOK_UP_S)) is Empty.NOT_YET:
            continue
        return batch
