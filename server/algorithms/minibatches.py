"""Several optimiser steps on one train batch: epochs of minibatches of whole unrolls, fit for recurrent networks.

The agent state of an unroll is the one that was stored before its first row, so a minibatch is as good a train batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from seedbed.server.algorithms.interface import EVERYTHING
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.transfer import put

NO_ROWS = Step(loss=None, group=EVERYTHING, weight=torch.zeros(()), metrics={})
"""The step of a minibatch without unrolls."""


def plan_of(epochs: int, minibatches: int) -> Sequence[str]:
    """The groups of the steps: every minibatch of every epoch."""
    return (EVERYTHING,) * (epochs * minibatches)


def orders_of(batch: TrainBatch, epochs: int) -> list[Tensor]:
    """The order of a batch's unrolls in each epoch, `[B]`, drawn of the global generator."""
    return [torch.randperm(len(batch.provenance)) for _ in range(epochs)]


def minibatches_of(batch: TrainBatch, *, orders: Iterable[Tensor], minibatches: int) -> Iterator[TrainBatch | None]:
    """All unrolls in some order, as many times as there are orders.

    Args:
        batch: B unrolls with all that a step wants to know of them among its fields.
        orders: of each epoch, see `orders_of`.
        minibatches: steps in an epoch.

    Yields:
        What each step learns from; None where there are fewer unrolls than minibatches.
    """
    for order in orders:
        there = put(order, batch.valid.device)
        for unrolls, index in zip(order.tensor_split(minibatches), there.tensor_split(minibatches), strict=True):
            yield batch.select(unrolls, index) if len(unrolls) else None
