"""Exchange of a learner that is the only one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

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

    def gradients(
        self, parameters: Sequence[nn.Parameter], weight: Tensor | None, *, mean: bool
    ) -> Mapping[str, Tensor] | None:
        """They stay as they are."""
        return None if weight is None else {}

    def moments(self, given: Mapping[str, Tensor], zeros: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """They stay as they are."""
        return given
