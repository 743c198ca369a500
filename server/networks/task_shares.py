"""Running shares of the tasks in what is learnt from, and weights that make up for those that are too small.

Environments of one task may be slower than those of another. A queue for each task would let the slowest one set the
pace, and a dead one stop all; so transitions of rare tasks count for more instead, within bounds.

Shapes: T transitions, B unrolls, K tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TASK_COUNTS = "task_counts"
"""Name of the counts of transitions among the moments of an update."""

LEAST_WEIGHT, LARGEST_WEIGHT = 0.2, 5.0
_RATE = 0.01  # share of an update in the running shares; the first ones have more, as if the average had always run


class TaskShares(nn.Module):
    """Running shares of K tasks among transitions; what is learnt beside the network.

    Args:
        wanted: share of each task; their sum is 1.

    Attributes:
        shares: of each task, float64 `[K]`; those wanted before the first update.
        kept: (1 - rate)^t, share of what there was before the first update; float64.
    """

    wanted: Tensor
    shares: Tensor
    kept: Tensor

    def __init__(self, wanted: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("wanted", torch.tensor(wanted, dtype=torch.float64))
        self.register_buffer("shares", torch.tensor(wanted, dtype=torch.float64))
        self.register_buffer("kept", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def counts(self, task: Tensor, valid: Tensor) -> Tensor:
        """Valid transitions of each task, float64 `[K]`, from int64 and bool `[T, B]`."""
        return valid.flatten().double() @ F.one_hot(task.flatten(), len(self.shares)).double()

    def weights(self) -> Tensor:
        """By how much the loss of each task's transitions is multiplied, float32 `[K]`; 1 on average."""
        return (self.wanted / self.shares.clamp(min=1e-9)).clamp(LEAST_WEIGHT, LARGEST_WEIGHT).float()

    @torch.no_grad()
    def merge(self, counts: Tensor) -> None:
        """Takes in the counts of an update, in place, without asking the device for a number."""
        total = counts.sum()
        kept = self.kept * (1.0 - _RATE)
        moved = torch.lerp(self.shares, counts / total.clamp(min=1.0), _RATE / (1.0 - kept))
        self.shares.copy_(torch.where(total > 0, moved, self.shares))
        self.kept.copy_(torch.where(total > 0, kept, self.kept))
