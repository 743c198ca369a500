"""Tasks in the losses of actor-critics: values in units of the spread of their targets (PopArt), and shares kept.

Shapes: T transitions, B unrolls, K tasks.
"""

from __future__ import annotations

from torch import Tensor, nn

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import TASK
from seedbed.server.networks.learnt import Learnt
from seedbed.server.networks.task_shares import TaskShares
from seedbed.server.networks.value_head import Scale, ValueMoments

VALUE_TARGETS = "value_targets"
"""Name of the sums over value targets among the moments of an update."""


def value_moments(learnt: nn.Module) -> ValueMoments | None:
    """Of what is learnt; None: values are not scaled."""
    return learnt.values if isinstance(learnt, Learnt) else None


def task_of(batch: TrainBatch) -> Tensor | None:
    """Which task each transition of a train batch belongs to, `[T, B]`; None where there is one."""
    return batch.fields[TASK][:-1] if TASK in batch.fields else None


def spreads_of(scale: Scale, batch: TrainBatch) -> Tensor:
    """The spread of value targets of each transition's task, `[T, B]`; a single number where there is one."""
    task, spread = task_of(batch), scale.spread.float()
    return spread if task is None else spread[task]


def task_shares(learnt: nn.Module) -> TaskShares | None:
    """Of what is learnt; None: tasks count as they come."""
    return learnt.shares if isinstance(learnt, Learnt) else None


def weights_of(shares: TaskShares | None, batch: TrainBatch) -> Tensor | None:
    """By how much the loss of each transition is multiplied, `[T, B]`; None: by nothing."""
    task = task_of(batch)
    return None if shares is None or task is None else shares.weights()[task]


def weighted(x: Tensor, weights: Tensor | None) -> Tensor:
    """`x` `[T, B]` times weights `[T, B]`, if there are any."""
    return x if weights is None else x * weights


def in_units_of(spreads: Tensor | None, *arrays: Tensor) -> tuple[Tensor, ...]:
    """Arrays `[T, B]` divided by the spread of their values; as they are where nothing is scaled."""
    return arrays if spreads is None else tuple(array / spreads for array in arrays)
