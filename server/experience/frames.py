"""Frame stacks made from frames that are stored once.

A stack of K frames ends with the newest. Frames of an earlier episode are zero in it, as they would be had the stack
been cleared at the reset; `age`, the steps since FIRST, says how many belong to the present one.

Consecutive frames of a slot lie one after the other in memory, so a stack is a window: it is gathered by one
`index_select` over an overlapping view, without a copy of each frame to build it. Of whole unrolls none of whose frames
is stale the view itself will do, and a network may read each frame once (`networks.observations.frames_of`).
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


def in_words(frames: Tensor) -> Tensor:
    """Frames of bytes on a device, eight to a number where they are: kernels that copy move a number a thread.

    Args:
        frames: `[R, ...]`.

    Returns:
        int64 `[R, n]`, a view; the frames themselves on a CPU, and where their bytes do not fit.
    """
    if frames.device.type == "cpu" or frames.dtype != torch.uint8 or not frames.is_contiguous() or not len(frames):
        return frames
    num_bytes = frames.numel() // len(frames)
    if num_bytes % 8 or frames.storage_offset() % 8:
        return frames
    return frames.view(len(frames), num_bytes).view(torch.int64)


def copy_rows(into: Tensor, places: Tensor, frames: Tensor) -> None:
    """into[places] = frames, as many bytes at a time as fit.

    Args:
        into: `[R, ...]`.
        places: int64 `[N]`.
        frames: `[N, ...]`.
    """
    ours, theirs = in_words(into), in_words(frames)
    if ours.dtype == theirs.dtype and ours.dim() == theirs.dim():
        ours.index_copy_(0, places, theirs)
    else:
        into.index_copy_(0, places, frames)


def select_rows(frames: Tensor, places: Tensor) -> Tensor:
    """frames[places], as many bytes at a time as fit; `[N, ...]` of `[R, ...]`."""
    words = in_words(frames)
    chosen = words.index_select(0, places)
    return chosen if words is frames else chosen.view(frames.dtype).unflatten(1, frames.shape[1:])


def unroll_windows(frames: Tensor, frame_stack: int) -> Tensor:
    """The stacks of unrolls none of whose frames is stale, as an overlapping view: no frame is copied.

    Args:
        frames: `[B, K - 1 + L, ...]`, contiguous.
        frame_stack: K.

    Returns:
        `[L, B, K, ...]`. Never write to it.
    """
    count = frames.shape[1] - frame_stack + 1
    between = (frames.stride(1), frames.stride(0), *frames.stride()[1:])
    return frames.as_strided((count, frames.shape[0], frame_stack, *frames.shape[2:]), between)


class StackIndex:
    """Where the stacks of some rows lie; the same for all arrays of which K frames are stacked."""

    def __init__(self, newest: Tensor, age: Tensor, frame_stack: int) -> None:
        """Finds them.

        Args:
            newest: int64 `[M]`, rows of the newest frames; the K - 1 rows before each hold the frames before it.
            age: int64 `[M]`, steps since FIRST.
            frame_stack: K.
        """
        self.newest = newest
        self._frame_stack = frame_stack
        history = frame_stack - 1
        self._oldest = newest - history if history else newest
        self._stale: tuple[Tensor, ...] = ()
        if history:
            stale = torch.arange(history, device=age.device) < history - age[:, None]  # [M, K - 1]
            # On a CPU few are stale: writing those alone costs less than a pass over all.
            self._stale = stale.nonzero(as_tuple=True) if stale.device.type == "cpu" else (~stale,)

    def gather(self, frames: Tensor) -> Tensor:
        """Gathers the stacks of one array.

        Args:
            frames: `[R, ...]`, contiguous.

        Returns:
            `[M, K, ...]`, oldest frame first, frames of earlier episodes zero.
        """
        words = in_words(frames)
        stacks = windows(words, self._frame_stack).index_select(0, self._oldest)
        if len(self._stale) == 2:
            if len(self._stale[0]):
                stacks[self._stale] = 0
        elif self._stale:
            (fresh,) = self._stale
            fresh = fresh.reshape(*fresh.shape, *[1] * (stacks.dim() - 2))
            stacks[:, : self._frame_stack - 1].mul_(fresh)  # no synchronisation with the host
        return stacks if words is frames else stacks.view(frames.dtype).unflatten(2, frames.shape[1:])
