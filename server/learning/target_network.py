"""The target network: an earlier or averaged copy of a part of what is learnt, counted in updates."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seedbed.server.algorithms.update_steps import Target


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
        self._rule = rule
        # Their tensors stay where they are, and finding them takes longer than a small network's copy.
        self._parameters = _Pairs(list(self.module.parameters()), list(source.parameters()))
        self._buffers = _Pairs(list(self.module.buffers()), list(source.buffers()))

    @torch.no_grad()
    def follow(self, before: int, now: int) -> None:
        """After the update that has brought the source from one version to another."""
        if self._rule.tau is not None:
            torch._foreach_lerp_(self._parameters.ours, self._parameters.theirs, self._rule.tau)
            _copy(self._buffers)
        elif self._rule.period is not None and now // self._rule.period > before // self._rule.period:
            _copy(self._parameters)
            _copy(self._buffers)


class _Pairs(NamedTuple):
    """Tensors of the copy and of its source."""

    ours: list[Tensor]
    theirs: list[Tensor]


def _copy(tensors: _Pairs) -> None:
    if tensors.ours:
        torch._foreach_copy_(tensors.ours, tensors.theirs)
