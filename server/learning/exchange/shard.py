"""Shard of the parameters of a run, kept by one learner for all of them, and AdaGrad on the gradients that come.

    s += g^2        p -= rate * g / (sqrt(s) + epsilon)

Dean et al. 2012 (DistBelief) have AdaGrad in the server because it bears gradients of old parameters; Gorila (Nair et
al. 2015, arXiv 1507.04296) the same, and discards those that are too old. The first shard decides that for all.
"""

from __future__ import annotations

import threading
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-8


class Kind(IntEnum):
    """What a learner asks for."""

    PUSH = 0  # apply a gradient, and give the newest parameters
    PULL = 1  # give the newest parameters
    GATHER = 2  # give all that a checkpoint needs
    END = 3  # nothing more


class Answer(NamedTuple):
    """What comes back.

    Attributes:
        version: gradients applied so far.
        applied: that of the request is among them.
        parameters: of this shard.
        squares: sums of squared gradients.
    """

    version: int
    applied: bool
    parameters: Tensor
    squares: Tensor


class Shard:
    """Asked by several threads."""

    def __init__(self, parameters: Tensor, squares: Tensor, version: int, max_age: int | None = None) -> None:
        """Takes tensors over, float32 of one dimension.

        Args:
            parameters: of the shard.
            squares: sums of squared gradients so far.
            version: gradients applied so far.
            max_age: versions after which a gradient is too old, in the shard that decides; None: it applies all.
        """
        self._parameters = parameters
        self._squares = squares
        self._version = version
        self._max_age = max_age
        self._lock = threading.Lock()

    def push(self, gradient: Tensor, least_version: int, rate: float) -> Answer:
        """Applies a gradient unless it is too old.

        Args:
            gradient: of this shard's parameters.
            least_version: of the parameters that it was computed with.
            rate: learning rate.
        """
        with self._lock:
            applied = self._max_age is None or self._version - least_version <= self._max_age
            if applied:
                self._squares.addcmul_(gradient, gradient)
                self._parameters.addcdiv_(gradient, self._squares.sqrt().add_(EPSILON), value=-rate)
                self._version += 1
            return self._answer(applied)

    def pull(self) -> Answer:
        """The newest parameters."""
        with self._lock:
            return self._answer(applied=False)

    def _answer(self, applied: bool) -> Answer:
        return Answer(self._version, applied, self._parameters.clone(), self._squares.clone())


class Losses:
    """Running mean and deviation of a learner's losses: a gradient of a loss far above them is no use to anybody."""

    def __init__(self, deviations: float | None, window: int = 1000, least: int = 20) -> None:
        """Knows none yet.

        Args:
            deviations: above the mean at which a loss is an outlier; None: none is.
            window: losses after which older ones fade.
            least: losses before the first outlier.
        """
        self.count = 0
        self.mean = 0.0
        self.variance = 0.0
        self._deviations = deviations
        self._window = window
        self._least = least

    @property
    def threshold(self) -> float:
        """Above it lie outliers."""
        if self._deviations is None or self.count < self._least:
            return float("inf")
        return self.mean + self._deviations * float(self.variance**0.5)

    def add(self, loss: float) -> bool:
        """Takes a loss in. Returns whether it is an outlier among those before."""
        outlier = loss > self.threshold
        self.count += 1
        share = 1.0 / min(self.count, self._window)
        apart = loss - self.mean
        self.mean += share * apart
        self.variance = (1.0 - share) * (self.variance + share * apart**2)
        return outlier


def split(flat: Tensor, world: int) -> list[Tensor]:
    """Shards of equal size, the last one filled up with zeros; copies."""
    size = -(-len(flat) // world)
    return list(torch.nn.functional.pad(flat, (0, size * world - len(flat))).clone().split(size))
