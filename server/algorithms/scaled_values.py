"""Values of actor-critics in units of the spread of their targets: PopArt, of each task by itself.

Shapes: T transitions, B unrolls, K tasks.
"""

from __future__ import annotations

from torch import Tensor, nn

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import TASK
from seedbed.server.networks.learnt import Learnt
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


def in_units_of(spreads: Tensor | None, *arrays: Tensor) -> tuple[Tensor, ...]:
    """Arrays `[T, B]` divided by the spread of their values; as they are where nothing is scaled."""
    return arrays if spreads is None else tuple(array / spreads for array in arrays)
