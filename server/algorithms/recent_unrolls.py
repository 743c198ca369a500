"""A small replay of recent unrolls, in the learner's own hands: what it has learnt from, for more steps on the same.

Nothing of it is saved: it is full again after a few updates.

Shapes: L rows, B unrolls of a train batch, N unrolls held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.transfer import put
from seedbed.server.experience.unroll import Provenance


class RecentUnrolls:
    """The unrolls of the newest train batches; each is as likely to be drawn.

    Args:
        num_batches: how many train batches of the first one's size it holds.
    """

    def __init__(self, num_batches: int) -> None:
        self._num_batches = num_batches
        self._held: TrainBatch | None = None
        self._provenance: list[Provenance] = []
        self._next = 0
        self._count = 0

    def __len__(self) -> int:
        """N."""
        return self._count

    def add(self, batch: TrainBatch) -> None:
        """Takes the unrolls of a train batch in, over the oldest."""
        size = batch.valid.shape[1]
        if self._held is None or not _alike(self._held, batch):
            self._held = _map(batch, lambda x, dim: x.new_zeros(_resized(x, dim, self._num_batches * size)))
            self._provenance = [*batch.provenance][:1] * (self._num_batches * size)
            self._next = self._count = 0
        capacity = len(self._provenance)
        for number in range(0, size, capacity):  # a batch that is larger than all: its last unrolls stay
            part = torch.arange(number, min(size, number + capacity))
            places = (torch.arange(len(part)) + self._next) % capacity
            self._write(batch, part, places)
            self._next = int((self._next + len(part)) % capacity)
            self._count = min(capacity, self._count + len(part))

    def draw(self, size: int) -> TrainBatch:
        """As many unrolls, evenly, with the global generator; the same one may come twice."""
        assert self._held is not None
        return replace(self._held, provenance=self._provenance).select(torch.randint(self._count, (size,)))

    def _write(self, batch: TrainBatch, part: Tensor, places: Tensor) -> None:
        assert self._held is not None
        on_device = put(places, batch.valid.device)
        chosen = batch.select(part)
        for (held, dim), (new, _) in zip(_tensors(self._held), _tensors(chosen), strict=True):
            held.index_copy_(dim, on_device, new)
        for place, unroll in zip(places.tolist(), chosen.provenance, strict=True):
            self._provenance[place] = unroll


def _tensors(batch: TrainBatch) -> list[tuple[Tensor, int]]:
    """All of a batch, each with the dimension that counts unrolls."""
    along_rows = [*batch.observations, *batch.fields.values(), batch.valid]
    return [(x, 1) for x in along_rows] + [(x, 0) for x in batch.state]


def _map(batch: TrainBatch, function: Callable[[Tensor, int], Tensor]) -> TrainBatch:
    return replace(
        batch,
        observations=tuple(function(x, 1) for x in batch.observations),
        fields={name: function(x, 1) for name, x in batch.fields.items()},
        state=tuple(function(x, 0) for x in batch.state),
        valid=function(batch.valid, 1),
        provenance=(),
    )


def _resized(x: Tensor, dim: int, size: int) -> list[int]:
    return [size if number == dim else length for number, length in enumerate(x.shape)]


def _alike(held: TrainBatch, batch: TrainBatch) -> bool:
    """Whether unrolls are of the same shape, wherever they are."""
    if held.fields.keys() != batch.fields.keys():
        return False
    pairs = zip(_tensors(held), _tensors(batch), strict=True)
    return all(
        ours.dtype == new.dtype and _resized(ours, dim, 1) == _resized(new, dim, 1) for (ours, dim), (new, _) in pairs
    )
