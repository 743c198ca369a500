"""Several multi-layer perceptrons of one shape as one: each layer is one batched product of stacked weights.

Shapes: N perceptrons, M rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Ensemble(nn.Module):
    """N perceptrons with ReLU between their layers.

    Weights start evenly within +- 1 / sqrt(inputs), as PyTorch's layers do and the published results had it.

    Args:
        count: N.
        sizes: numbers in, of each hidden layer, and out.
        layer_norm: hidden layers are normalised before their ReLU (Ba et al. 2016, arXiv 1607.06450).
    """

    def __init__(self, count: int, sizes: Sequence[int], *, layer_norm: bool = False) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList(_evenly(count, size, out, within=size) for size, out in pairs)
        self.biases = nn.ParameterList(_evenly(count, 1, out, within=size) for size, out in pairs)
        normed = sizes[1:-1] if layer_norm else ()
        self.scales = nn.ParameterList(torch.ones(count, 1, size) for size in normed)
        self.shifts = nn.ParameterList(torch.zeros(count, 1, size) for size in normed)
        self._count = count

    def forward(self, x: Tensor) -> Tensor:
        """`[..., sizes[0]]`, the same for all, to `[N, ..., sizes[-1]]`."""
        rows = x.reshape(-1, x.shape[-1])
        hidden = rows.expand(self._count, *rows.shape)
        last = len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if number < last:
                if len(self.scales):
                    hidden = F.layer_norm(hidden, hidden.shape[-1:])
                    hidden = torch.addcmul(self.shifts[number], hidden, self.scales[number])
                hidden = torch.relu(hidden)
        return hidden.reshape(self._count, *x.shape[:-1], hidden.shape[-1])


def _evenly(count: int, rows: int, columns: int, *, within: int) -> nn.Parameter:
    bound = within**-0.5
    return nn.Parameter(torch.empty(count, rows, columns).uniform_(-bound, bound))
