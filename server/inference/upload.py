"""All that an inference batch needs, to the device by one copy.

Every copy costs a launch, and one from ordinary memory may wait for the device. So rows of the slot table are gathered
into pinned memory, small arrays are laid beside them, and the tensors on the device are views of what arrived.

Two pieces of pinned memory take turns: one is filled while the copy out of the other may still be on its way.

Shapes: N rows of an inference batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.server.experience.stored_unrolls import Marker

_ALIGNMENT = 16
_LEAST_BYTES = 1 << 16


class _Staging(NamedTuple):
    """Pinned memory, and when the newest copy out of it is done."""

    memory: Tensor
    copied: Marker


class Upload:
    """Used by one thread."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._staging = [_Staging(torch.empty(0, dtype=torch.uint8), Marker(device)) for _ in range(2)]

    def __call__(
        self, slots: NDArray[np.int64], tables: Sequence[Tensor], arrays: Sequence[NDArray[Any]]
    ) -> list[Tensor]:
        """The rows of these slots, and other arrays, on the device; on a CPU the arrays share their memory.

        Args:
            slots: `[N]`.
            tables: `[S, ...]` each.
            arrays: of any dtype and shape.

        Returns:
            `[N, ...]` for each table, then the arrays.
        """
        index = torch.from_numpy(slots)
        if self._device.type == "cpu":
            return [table.index_select(0, index) for table in tables] + [torch.from_numpy(array) for array in arrays]
        specs = [((len(slots), *table.shape[1:]), table.dtype) for table in tables]
        small = [torch.from_numpy(array) for array in arrays]
        specs += [(tuple(array.shape), array.dtype) for array in small]
        places, end = [], 0
        for shape, dtype in specs:
            begin = -(-end // _ALIGNMENT) * _ALIGNMENT
            end = begin + int(np.prod(shape)) * dtype.itemsize
            places.append(slice(begin, end))
        staging = self._next_staging(end)
        views = [
            staging.memory[place].view(dtype).view(shape) for place, (shape, dtype) in zip(places, specs, strict=True)
        ]
        for table, view in zip(tables, views, strict=False):
            torch.index_select(table, 0, index, out=view)
        for array, view in zip(small, views[len(tables) :], strict=True):
            view.copy_(array)
        there = staging.memory[:end].to(self._device, non_blocking=True)
        staging.copied.record()
        return [there[place].view(dtype).view(shape) for place, (shape, dtype) in zip(places, specs, strict=True)]

    def _next_staging(self, num_bytes: int) -> _Staging:
        """The one that was filled longer ago, large enough and not being read any more."""
        newer, older = self._staging
        older.copied.wait_on_host()
        if len(older.memory) < num_bytes:
            size = max(_LEAST_BYTES, 1 << (num_bytes - 1).bit_length())
            older = _Staging(torch.empty(size, dtype=torch.uint8, pin_memory=True), older.copied)
        self._staging = [older, newer]
        return older
