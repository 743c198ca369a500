"""What torsos need to know of observations: which they can read, how to scale them, how to lay images out.

Shapes: N rows, K stacked frames, c channels of one frame, C = K * c.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec
from seedbed.server.networks.array_kinds import image_of

_PACKED = {4: torch.int32, 8: torch.int64}
"""Bytes -> the type that moves so many at once."""


FEW = 16
"""Integers whose bounds are no further apart are shares of them; see `squash`."""


def input_scale(spec: ArraySpec) -> float:
    """What to multiply an image with, so that it lies in [-1, 1]: bytes go to [0, 1], by 255 where unbounded."""
    if not spec.bounded:
        return 1.0 / 255.0 if spec.dtype == "uint8" else 1.0
    return 1.0 / (max(map(abs, (*spec.low, *spec.high))) or 1.0)


def has_many_values(spec: ArraySpec) -> bool:
    """Whether an array holds integers of a range in which those that matter may be a few: see `squash`."""
    spread = max(high - low for low, high in spec.bound_pairs)
    return spec.kind == "box" and spec.dtype != "float32" and not spread <= FEW


def squash(x: Tensor) -> Tensor:
    """Half of the logarithm of 1 + |x|, with the sign of x.

    Of integers that are small numbers in a wide space it keeps what tells them apart, 1 from 2 by 0.2, and of those
    that fill 0 to 255 at least half of what a division by 255 would keep.
    """
    return torch.sign(x) * torch.log1p(x.abs()) * 0.5


class AsRead(nn.Module):
    """What torsos get for an array, see `array_kinds.as_read`: channels last, discrete values from 0, others as is."""

    def __init__(self, spec: ArraySpec) -> None:
        super().__init__()
        moves = spec.kind == "discrete" and any(spec.low)
        start = torch.as_tensor(spec.lower).to(getattr(torch, spec.dtype)) if moves else None
        self.register_buffer("_start", start, persistent=False)
        self._start: Tensor | None
        image = image_of(spec)
        self._turned = spec.shape if image is not None and image.channels_first else None

    def forward(self, x: Tensor) -> Tensor:
        """`[N, K, *spec.shape]`, or as stored (`as_stored`), which costs nothing."""
        if self._start is not None:
            return x - self._start
        return x.movedim(2, 4).flatten(4) if tuple(x.shape[2:]) == self._turned else x


def single_image(specs: Sequence[ArraySpec]) -> ArraySpec:
    """The only observation, which must be an image `(h, w)` or `(h, w, c)`.

    Raises:
        SpecError: it is not; the message lists what came.
    """
    if len(specs) != 1 or len(specs[0].shape) not in (2, 3):
        came = ", ".join(f"{spec.name!r} {spec}" for spec in specs)
        raise SpecError(
            f"this torso expects exactly one observation, an image of shape (h, w) or (h, w, c), got {came}; 'auto' "
            "reads others"
        )
    return specs[0]


def num_channels(image: ArraySpec, frame_stack: int) -> int:
    """C, after stacking."""
    return frame_stack * (image.shape[2] if len(image.shape) == 3 else 1)


def block_shape(shape: tuple[int, ...], block: int) -> tuple[int, ...]:
    """The shape of a frame of that shape, once its pixels are in blocks; see `to_blocks`."""
    if block == 1:
        return shape
    height, width, *channels = shape
    return (height // block, width // block, block * block * math.prod(channels))


def to_blocks(frames: Tensor, block: int) -> Tensor:
    """Puts the pixels of each square of `block` x `block` side by side, as channels of a smaller image.

    A first convolution whose kernel is a multiple of its stride then reads whole blocks: on a CPU its backward pass
    takes a third of the time, and stacking frames copies many bytes at once instead of one (docs/performance.md).

    Args:
        frames: `[N, h, w]` or `[N, h, w, c]`, contiguous; of any shape if block is 1.
        block: edge of a block, a divisor of h and w; 1: nothing is done.

    Returns:
        `[N, h / block, w / block, block * block * c]`, each block's pixels row by row.
    """
    if block == 1:
        return frames
    count, height, width = frames.shape[:3]
    dtype = frames.dtype
    row_of_block = block * math.prod(frames.shape[3:])
    frames = frames.reshape(count, height, width // block * row_of_block)
    packed = None if is_exported() else _PACKED.get(row_of_block * dtype.itemsize)
    if packed is not None:  # nine times as fast as pixel by pixel
        frames, row_of_block = frames.view(packed), 1
    rows = frames.reshape(count, height // block, block, width // block, row_of_block)
    blocks = rows.transpose(2, 3).contiguous().reshape(count, height // block, width // block, -1)
    return blocks if packed is None else blocks.view(dtype)


def is_exported() -> bool:
    """Whether operations are only looked at, to be written down: then bytes keep their type, which ONNX has no view of.

    The same values in the same order; quicker ways to move them are for those who compute here.
    """
    return torch.compiler.is_compiling()


def as_stored(frames: Tensor, spec: ArraySpec, block: int) -> Tensor:
    """Frames as they are stored: channels last, in blocks.

    Args:
        frames: `[N, *spec.shape]`, as the environment shows them.
        spec: of one frame.
        block: see `to_blocks`.
    """
    image = image_of(spec)
    turned = image is not None and image.channels_first
    return to_blocks(frames.movedim(1, 3).flatten(3) if turned else frames, block)


def stack_channels(frames: Tensor) -> Tensor:
    """`[N, K, h, w]` or `[N, K, h, w, c]` to `[N, C, h, w]`, oldest frame first, channels last in memory.

    Channels last is the layout in which convolutions are fastest. Interleaving single frames with `cat` takes half as
    long as converting the stack, and nothing at all where the caller's memory is already `[N, h, w, K, c]`.
    """
    if frames.dim() == 4:
        frames = frames.unsqueeze(-1)
    interleaved = frames.movedim(1, 3)
    if interleaved.is_contiguous() or is_exported():
        return interleaved.flatten(3).permute(0, 3, 1, 2)
    dtype = frames.dtype
    if frames.shape[-1] * dtype.itemsize % 8 == 0:  # eight bytes at once
        frames = frames.view(torch.int64)
    return torch.cat(frames.unbind(1), dim=-1).view(dtype).permute(0, 3, 1, 2)


def keeps_frames_apart(frames: Tensor) -> bool:
    """Whether a first convolution had better reach over time too, instead of seeing stacked frames as channels.

    On a CPU interleaving frames takes longer than the convolution, and reaching over frames that lie apart costs
    nothing, if a frame's own channels fill a vector (docs/performance.md). On CUDA two dimensions are the safe choice.
    """
    return frames.device.type == "cpu" and frames.dim() == 5 and frames.shape[-1] % 8 == 0 and not is_exported()


def frames_of(stacks: Tensor) -> Tensor | None:
    """The frames that stacks of unrolls are windows of, `[B, T + K - 1, ...]`, each once; None: stacks are copies.

    Args:
        stacks: `[T, B, K, ...]`.
    """
    (rows, unrolls, frame_stack), (row, unroll, frame) = stacks.shape[:3], stacks.stride()[:3]
    if is_exported() or frame_stack == 1 or row != frame or not stacks[0, 0, 0].is_contiguous():
        return None
    return stacks.as_strided((unrolls, rows + frame_stack - 1, *stacks.shape[3:]), (unroll, *stacks.stride()[2:]))


def read_pixels(frames: Tensor, dtype: torch.dtype, background: float) -> Tensor:
    """Pixels in the dtype of computation, the background at 0.

    What is constant in every frame moves all weights of a filter the same way, and one large step then leaves it dead:
    with a background of 0, only what changes has a gradient. (Whole pixel values up to 256 are exact in bfloat16.)
    """
    if not background:
        return frames.to(dtype)
    if frames.is_floating_point():
        return frames.to(dtype) - background
    return torch.sub(frames, torch.tensor(background, dtype=dtype))  # converts and subtracts at once


def flatten_image(x: Tensor) -> Tensor:
    """`[N, C, h, w]` to `[N, h * w * C]`: a view when channels are last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1)
