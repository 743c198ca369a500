"""The target network: an earlier or averaged copy of a part of what is learnt, counted in updates."""

from __future__ import annotations

import copy

import torch
from torch import nn

from seedbed.server.algorithms.interface import Target


class TargetNetwork:
    """A frozen copy that follows its source.

    Attributes:
        module: the copy; its tensors stay where they are.
    """

    def __init__(self, source: nn.Module, rule: Target) -> None:
        """Starts equal to the source.

        Args:
            source: what it follows.
            rule: how.
        """
        self.module = copy.deepcopy(source).requires_grad_(False)
        self._source = source
        self._rule = rule

    @torch.no_grad()
    def follow(self, num_updates: int) -> None:
        """After so many updates of the source."""
        if self._rule.tau is not None:
            torch._foreach_lerp_(list(self.module.parameters()), list(self._source.parameters()), self._rule.tau)
            self._copy_buffers()
        elif self._rule.period is not None and num_updates % self._rule.period == 0:
            for ours, theirs in zip(self.module.parameters(), self._source.parameters(), strict=True):
                ours.copy_(theirs)
            self._copy_buffers()

    def _copy_buffers(self) -> None:
        for ours, theirs in zip(self.module.buffers(), self._source.buffers(), strict=True):
            ours.copy_(theirs)
