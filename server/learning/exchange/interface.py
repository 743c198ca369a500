"""Exchange: what learners of one run do together, between the gradients of a step and the step itself.

    alone            nothing: there is one learner
    all_reduce       the gradients of all learners are one gradient, so that all parameters stay equal
    gossip           each makes its own updates, and is mixed with the newest of a neighbour after each
    parameter_server gradients of each are applied as they come, to parameters of which each keeps a shard

A learner asks its exchange what to do next, and shares gradients and moments through it; it knows no other learner.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

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
        serves: parameters are kept, and steps made, elsewhere: see `step`.
    """

    joint: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    serves: ClassVar[bool] = False

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

    def gradients(
        self, parameters: Sequence[nn.Parameter], weight: Tensor | None, *, mean: bool
    ) -> Mapping[str, Tensor] | None:
        """Replaces the gradients of parameters by those of all learners together, before they are clipped.

        Unless said otherwise they stay as they are.

        Args:
            parameters: of a group; each `.grad` is that of this learner, or None.
            weight: what this learner's loss has been divided by; None: it has no rows for this step.
            mean: losses are means, and so is what comes of them; else sums.

        Returns:
            Metrics of it; None: nobody has rows, and no step is made.

        Raises:
            PeerLostError: another learner is gone; no parameter has changed.
        """
        return None if weight is None else {}

    def moments(self, given: Mapping[str, Tensor], zeros: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """The sums of an update over all learners; unless said otherwise those of this one.

        Args:
            given: those of this learner.
            zeros: makes all that an update may give; a learner without a batch gives these.

        Raises:
            PeerLostError: another learner is gone.
        """
        return given

    def mix(self, learnt: nn.Module) -> Mapping[str, Tensor]:
        """After the last step of an update, and before anybody sees it. Returns metrics."""
        return {}

    def step(self, rate: float, loss: Tensor, norm: Tensor) -> Mapping[str, Tensor] | None:
        """Makes a step on the gradients that the parameters have, in their optimiser's place; None: it does not.

        Args:
            rate: learning rate.
            loss: that the gradients are of.
            norm: of the gradients before they were clipped; one that is not finite has left zeros.

        Returns:
            Metrics.
        """
        return None

    def version_after(self, version: int) -> int:
        """The version that parameters have after an update, where that is not the next one, `version`."""
        return version

    def gather(self) -> int | None:
        """Brings into this learner what others keep of the parameters, for a checkpoint; only between two updates.

        Returns:
            Their version; None: nothing is kept elsewhere.
        """
        return None

    def get_state(self) -> dict[str, Any]:
        """What belongs into the learner's state."""
        return {}

    def set_state(self, state: Mapping[str, Any], version: int) -> None:
        """The inverse, before the first turn."""
        return
