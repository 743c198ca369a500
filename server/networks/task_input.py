"""The task of a row in a network that is told: a layer over the torso's features read by each task in its own way.

    relu( g_k * (W f + b) + c_k )

W and b are common, gain g_k and shift c_k the task's own (feature-wise modulation, Perez et al. 2018, arXiv
1709.07871). Gains begin as random signs, as contexts that are kept apart in one network do (Cheung et al. 2019, arXiv
1902.05522), so that half of the units differ between any two tasks from the first update on. A one-hot number among
many features moves them so little that, where tasks look alike and want other actions, the policy is certain of what
one of them wants before it tells the two apart; the other then tries nothing else any more.

Shapes: F features, K tasks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seedbed.server.networks.layers import HIDDEN_GAIN, initialise


class TaskInput(nn.Module):
    """Features `[..., F]` and tasks, int64 `[...]`, to `[..., F]`."""

    def __init__(self, size: int, num_tasks: int) -> None:
        super().__init__()
        self._num_tasks = num_tasks
        self.common = nn.Linear(size, size)
        initialise(self.common, HIDDEN_GAIN)
        self.gain = nn.Parameter(torch.randint(2, (num_tasks, size)) * 2.0 - 1.0)
        self.shift = nn.Parameter(torch.zeros(num_tasks, size))

    def forward(self, features: Tensor, task: Tensor) -> Tensor:
        """See the class."""
        one_hot = F.one_hot(task, self._num_tasks).to(features.dtype)
        return torch.relu(torch.addcmul(one_hot @ self.shift, one_hot @ self.gain, self.common(features)))
