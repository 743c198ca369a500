"""Train batches as networks read them: inputs and action masks.

Shapes: L rows and B unrolls of a train batch, M entries of an action mask.
"""

from __future__ import annotations

from torch import Tensor

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import ACTION_MASK, LAST_ACTION, TASK
from seedbed.server.networks.interface import Inputs


def mask_of(batch: TrainBatch, rows: slice = slice(None)) -> Tensor | None:
    """The action masks of some rows of a train batch, all unless given, `[L, B, M]`; None: everything is allowed."""
    return batch.fields[ACTION_MASK][rows] if ACTION_MASK in batch.fields else None


def batch_inputs(batch: TrainBatch) -> Inputs:
    """The rows of a train batch as a network reads them, `[L, B, ...]`."""
    fields = batch.fields
    last_action = tuple(array for name, array in fields.items() if name.startswith(LAST_ACTION))
    mask, task = fields.get(ACTION_MASK), fields.get(TASK)
    return Inputs(batch.observations, fields["step_type"], fields["reward"], last_action, mask, task)
