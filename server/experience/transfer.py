"""Small arrays on their way to a device and back, without a thread that waits for it.

A copy from ordinary host memory may wait for all that the stream was given before, and a copy to the host does. So
arrays go up through pinned memory, several of one dtype by one copy, and come down later than they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array as a tensor there; on a CPU it shares its memory."""
    return put(torch.from_numpy(array), device)


def put(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host as one on the device; on a CPU itself."""
    if device.type == "cpu":
        return tensor
    staged = torch.empty_like(tensor, pin_memory=True)  # torch gives it to nobody else before the copy is done
    staged.copy_(tensor)
    return staged.to(device, non_blocking=True)


def indices_to_device(device: torch.device, *arrays: NDArray[np.int64]) -> tuple[Tensor, ...]:
    """Arrays `[M]` of int64, all by one copy; on a CPU they share their memory."""
    if device.type == "cpu":
        return tuple(torch.from_numpy(array) for array in arrays)
    return to_device(np.stack(arrays), device).unbind()


class Fetched:
    """Numbers that are on their way from a device; on a CPU they are there."""

    def __init__(self, tensor: Tensor, use: Callable[[NDArray[Any]], None]) -> None:
        """Sends them off.

        Args:
            tensor: what is fetched.
            use: called with them by `arrive`.
        """
        self._use = use
        self._event: Any = None
        self._there = tensor
        if tensor.device.type != "cpu":
            self._there = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._there.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def arrive(self) -> None:
        """Waits for them, if they are not there yet, and uses them."""
        if self._event is not None:
            self._event.synchronize()
        self._use(self._there.numpy())
