"""Exchange: what learners of one run do together, between the gradients of a step and the step itself.

    alone            nothing: there is one learner
    all_reduce       the gradients of all learners are one gradient, so that all parameters stay equal
    gossip           each makes its own updates, and is mixed with the newest of a neighbour after each

A learner asks its exchange what to do next, and shares gradients and moments through it; it knows no other learner.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.source import Empty

Get = Callable[[float], TrainBatch | Empty]
"""Waits so many seconds for a train batch of one's own."""


class Exchange(ABC):
    """Among the learners of a run; used by the learner's thread alone.

    Attributes:
        rank: of this learner.
        world: K, how many there are.
        unused: transitions that were taken for an update which was not made, as the run ended.
        joint: updates are made together, by all learners or by none.
        mixes: learners become the mean of one another after an update: see `mix`.
    """

    joint: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    rank: int = 0
    world: int = 1
    unused: int = 0

    @abstractmethod
    def turn(self, get: Get) -> TrainBatch | Empty:
        """What the next update learns from.

        Args:
            get: waits for a train batch of this learner.

        Returns:
            A train batch; NOT_YET: the update is made of others' alone; CLOSED: there is none any more.

        Raises:
            PeerLostError: another learner is gone.
        """

    @abstractmethod
    def gradients(
        self, parameters: Sequence[nn.Parameter], weight: Tensor | None, *, mean: bool
    ) -> Mapping[str, Tensor] | None:
        """Replaces the gradients of parameters by those of all learners together, before they are clipped.

        Args:
            parameters: of a group; each `.grad` is that of this learner, or None.
            weight: what this learner's loss has been divided by; None: it has no rows for this step.
            mean: losses are means, and so is what comes of them; else sums.

        Returns:
            Metrics of it; None: nobody has rows, and no step is made.

        Raises:
            PeerLostError: another learner is gone; no parameter has changed.
        """

    @abstractmethod
    def moments(self, given: Mapping[str, Tensor], zeros: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """The sums of an update over all learners.

        Args:
            given: those of this learner.
            zeros: makes all that an update may give; a learner without a batch gives these.

        Raises:
            PeerLostError: another learner is gone.
        """

    def mix(self, learnt: nn.Module) -> Mapping[str, Tensor]:
        """After the last step of an update, and before anybody sees it. Returns metrics."""
        return {}
