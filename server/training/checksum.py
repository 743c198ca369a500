"""Checksums of a learner's state, by which several learners see that theirs are still equal."""

from __future__ import annotations

import zlib

import torch

from seedbed.server.learning.learner import Learner
from seedbed.server.run.state_tree import flatten_state

_PERIOD = 1000  # updates


class Checksums:
    """Of parameters, statistics, optimisers and target network, now and then; asked by the learner's thread."""

    def __init__(self, learner: Learner, period: int = _PERIOD) -> None:
        """Knows none yet.

        Args:
            learner: between two updates whenever it is asked.
            period: updates from one to the next.
        """
        self._learner = learner
        self._period = period
        self._newest = (0, 0)

    def newest(self) -> tuple[int, int]:
        """After how many updates, and what it was."""
        updates = self._learner.num_updates
        if updates % self._period == 0 and updates != self._newest[0]:
            self._newest = (updates, checksum_of(self._learner))
        return self._newest


def checksum_of(learner: Learner) -> int:
    """Of all tensors of its state."""
    found = 0
    for tensor in flatten_state("", learner.get_state())[0].values():
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found = zlib.crc32(flat.numpy().data, found)
    return found
