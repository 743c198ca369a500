"""Whole updates as CUDA graphs: one launch instead of hundreds, for train batches whose shapes stay the same.

The first updates run as they are: optimisers make their state, libraries choose their kernels. Then what an update
does on the device is recorded, on memory that every later batch is copied into, and replayed. Nothing of it may depend
on numbers of the host: learning rates are tensors, and what goes by the version is done around it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.inference.graphs import capture_cuda_graph

Work = Callable[[TrainBatch], Mapping[str, Tensor]]

_AS_THEY_ARE = 3  # updates of a shape before it is recorded


class _Recording(NamedTuple):
    """One graph with its memory."""

    batch: TrainBatch
    replay: Callable[[], None]
    found: Mapping[str, Tensor]


class GraphedUpdate:
    """Used by the learner's thread."""

    def __init__(self, work: Work) -> None:
        """Records nothing yet.

        Args:
            work: what an update does on the device, and what comes of it by name.
        """
        self._work = work
        self._seen: Counter[tuple[torch.Size, ...]] = Counter()
        self._recordings: dict[tuple[torch.Size, ...], _Recording] = {}

    def __call__(self, batch: TrainBatch) -> Mapping[str, Tensor]:
        """Makes an update of a train batch; what comes of it is the caller's to keep."""
        tensors = _tensors(batch)
        shapes = tuple(tensor.shape for tensor in tensors)
        self._seen[shapes] += 1
        if self._seen[shapes] <= _AS_THEY_ARE:
            return self._work(batch)
        if shapes not in self._recordings:
            self._recordings[shapes] = self._record(batch)
        recording = self._recordings[shapes]
        for ours, theirs in zip(_tensors(recording.batch), tensors, strict=True):
            ours.copy_(theirs)
        recording.replay()
        return {name: tensor.clone() for name, tensor in recording.found.items()}

    def _record(self, batch: TrainBatch) -> _Recording:
        fixed = replace(
            batch,
            observations=tuple(array.clone() for array in batch.observations),
            fields={name: array.clone() for name, array in batch.fields.items()},
            state=tuple(part.clone() for part in batch.state),
            valid=batch.valid.clone(),
            sample=None if batch.sample is None else replace(batch.sample, weights=batch.sample.weights.clone()),
        )
        replay, found = capture_cuda_graph(lambda: self._work(fixed), warm_ups=0)
        return _Recording(fixed, replay, found)


def _tensors(batch: TrainBatch) -> list[Tensor]:
    drawn = [] if batch.sample is None else [batch.sample.weights]
    return [*batch.observations, *batch.fields.values(), *batch.state, batch.valid, *drawn]
