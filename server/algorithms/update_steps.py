"""Steps of an update, groups of parameters, heads with a scale, and how a target network follows: plain values.

Shapes: B unrolls of a train batch, K tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn


class Step(NamedTuple):
    """One optimiser step of an update.

    Attributes:
        loss: scalar to differentiate, for the parameters of `group` alone; None where the train batch has no rows for
            this step, which only shapes say: no number of the device is asked.
        group: of the parameters that change.
        weight: what the main loss has been divided by, so that several learners can weigh their gradients: valid
            transitions of a mean, B unrolls of a replay, 1 of a sum. At 0 the loss must be 0, and so its gradient.
        metrics: scalars without gradient, by name.
        priorities: `[B]` without gradient, how much each unroll is worth being replayed; of one step of an update.
        moments: sums over transitions for statistics that change after the update, by name, each transition once.
        histograms: values without gradient, by name, of any shape, NaN where they do not count: how they are spread is
            shown once in a log interval.
    """

    loss: Tensor | None
    group: str
    weight: Tensor
    metrics: Mapping[str, Tensor]
    priorities: Tensor | None = None
    moments: Mapping[str, Tensor] | None = None
    histograms: Mapping[str, Tensor] | None = None


class Group(NamedTuple):
    """Parameters with an optimiser of their own.

    Attributes:
        parameters: no other group has one of them.
        learning_rate: at the start; None: the common one.
        clip_norm: of their gradient; None: the common one.
    """

    parameters: Sequence[nn.Parameter]
    learning_rate: float | None = None
    clip_norm: float | None = None


class ScaledHead(NamedTuple):
    """A linear head that says spread * (weight f + bias) + mean; all `[K, ...]`.

    Attributes:
        weight, bias: that are learnt.
        spread, mean: of the moments of its targets.
    """

    weight: Tensor
    bias: Tensor
    spread: Tensor
    mean: Tensor


@dataclass(frozen=True, slots=True)
class Target:
    """How a target network follows what is learnt; one of the two.

    Attributes:
        period: updates between two copies.
        tau: share by which its parameters move towards those being learnt after every update; buffers are copied.
    """

    period: int | None = None
    tau: float | None = None

    def __post_init__(self) -> None:
        if (self.period is None) == (self.tau is None):
            raise ValueError(f"expected a period or a tau, got {self}")
