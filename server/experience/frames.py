"""Frame stacks made from frames that are stored once.

A stack of K frames ends with the newest. Frames of an earlier episode are zero in it, as they would be had the stack
been cleared at the reset; `age`, the steps since FIRST, says how many belong to the present one.

Consecutive frames of a slot lie one after the other in memory, so a stack is a window: it is gathered by one
`index_select` over an overlapping view, without a copy of each frame to build it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def windows(frames: Tensor, frame_stack: int) -> Tensor:
    """All runs of K consecutive frames, as an overlapping view.

    Args:
        frames: `[R, ...]`, contiguous.
        frame_stack: K.

    Returns:
        `[R - K + 1, K, ...]`; window i covers frames i .. i + K - 1. Never write to it.
    """
    count = frames.shape[0] - frame_stack + 1
    return frames.as_strided((count, frame_stack, *frames.shape[1:]), (frames.stride(0), *frames.stride()))


def gather_stacks(frames: Tensor, newest: Tensor, age: Tensor, frame_stack: int) -> Tensor:
    """Gathers stacks by the position of their newest frame.

    Args:
        frames: `[R, ...]`, contiguous; the K - 1 rows before any `newest` hold the frames before it.
        newest: int64 `[M]`, rows of the newest frames.
        age: int64 `[M]`, steps since FIRST.
        frame_stack: K.

    Returns:
        `[M, K, ...]`, oldest frame first, frames of earlier episodes zero.
    """
    history = frame_stack - 1
    stacks = windows(frames, frame_stack).index_select(0, newest - history)
    return stacks if history == 0 else _zero_stale(stacks, age, history)


def _zero_stale(stacks: Tensor, age: Tensor, history: int) -> Tensor:
    """Zeroes in place the frames older than the episode: all but the newest `age + 1`."""
    stale = torch.arange(history, device=age.device) < history - age[:, None]  # [M, K - 1]
    if stacks.device.type == "cpu":  # few are stale: writing those alone costs less than a pass over all
        row, frame = stale.nonzero(as_tuple=True)
        if len(row):
            stacks[row, frame] = 0
        return stacks
    keep = (~stale).reshape(*stale.shape, *[1] * (stacks.dim() - 2))
    stacks[:, :history].mul_(keep)  # no synchronisation with the host
    return stacks
