"""Several optimiser steps on one train batch: epochs of minibatches of whole unrolls, fit for recurrent networks.

The agent state of an unroll is the one that was stored before its first row, so a minibatch is as good a train batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from seedbed.server.algorithms.interface import EVERYTHING
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.transfer import put

NO_ROWS = Step(loss=None, group=EVERYTHING, weight=torch.zeros(()), metrics={})
"""The step of a minibatch without unrolls."""


def plan_of(epochs: int, minibatches: int) -> Sequence[str]:
    """The groups of the steps: every minibatch of every epoch."""
    return (EVERYTHING,) * (epochs * minibatches)


def minibatches_of(batch: TrainBatch, *, epochs: int, minibatches: int) -> Iterator[TrainBatch | None]:
    """All unrolls in random order, as many times as there are epochs; draws of the global generator.

    Args:
        batch: B unrolls with all that a step wants to know of them among its fields.
        epochs: times that it is gone through.
        minibatches: steps in an epoch.

    Yields:
        What each step learns from; None where there are fewer unrolls than minibatches.
    """
    for _ in range(epochs):
        order = torch.randperm(len(batch.provenance))
        there = put(order, batch.valid.device)
        for unrolls, index in zip(order.tensor_split(minibatches), there.tensor_split(minibatches), strict=True):
            yield batch.select(unrolls, index) if len(unrolls) else None
