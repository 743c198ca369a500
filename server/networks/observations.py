"""What torsos need to know of observations: which they can read, how to scale them, how to lay images out.

Shapes: N rows, K stacked frames, c channels of one frame, C = K * c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec

_PACKED = {4: torch.int32, 8: torch.int64}
"""Bytes -> the type that moves so many at once."""


def num_elements(spec: ArraySpec) -> int:
    """How many numbers one frame holds."""
    return math.prod(spec.shape)


def input_scale(spec: ArraySpec) -> float:
    """What to multiply a frame with: uint8 goes to [0, 1] by its maximum (255 where unbounded), float32 stays.

    Raises:
        SpecError: another dtype.
    """
    if spec.dtype == "float32":
        return 1.0
    if spec.dtype == "uint8":
        start = min(spec.low) if spec.kind == "discrete" else 0.0  # see `FromZero`
        return 1.0 / (max(spec.high) - start if spec.bounded else 255.0)
    raise SpecError(f"observation {spec.name!r}: networks expect uint8 or float32, got {spec}")


class FromZero(nn.Module):
    """Counts the values of a discrete array, which travel as the environment has them, from 0; others stay."""

    def __init__(self, spec: ArraySpec) -> None:
        super().__init__()
        moves = spec.kind == "discrete" and any(spec.low)
        start = torch.as_tensor(spec.lower).to(getattr(torch, spec.dtype)) if moves else None
        self.register_buffer("_start", start, persistent=False)
        self._start: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """`[..., *spec.shape]`."""
        return x if self._start is None else x - self._start


def single_image(specs: tuple[ArraySpec, ...]) -> ArraySpec:
    """The only observation, which must be an image `(h, w)` or `(h, w, c)`.

    Raises:
        SpecError: it is not; the message lists what came.
    """
    if len(specs) != 1 or len(specs[0].shape) not in (2, 3):
        came = ", ".join(f"{spec.name!r} {spec}" for spec in specs)
        raise SpecError(
            f"this torso expects exactly one observation, an image of shape (h, w) or (h, w, c), got {came}"
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
    if (packed := _PACKED.get(row_of_block * dtype.itemsize)) is not None:  # nine times as fast as pixel by pixel
        frames, row_of_block = frames.view(packed), 1
    rows = frames.reshape(count, height // block, block, width // block, row_of_block)
    return rows.transpose(2, 3).contiguous().reshape(count, height // block, width // block, -1).view(dtype)


def stack_channels(frames: Tensor) -> Tensor:
    """`[N, K, h, w]` or `[N, K, h, w, c]` to `[N, C, h, w]`, oldest frame first, channels last in memory.

    Channels last is the layout in which convolutions are fastest. Interleaving single frames with `cat` takes half as
    long as converting the stack, and nothing at all where the caller's memory is already `[N, h, w, K, c]`.
    """
    if frames.dim() == 4:
        frames = frames.unsqueeze(-1)
    interleaved = frames.movedim(1, 3)
    if interleaved.is_contiguous():
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
    return frames.device.type == "cpu" and frames.dim() == 5 and frames.shape[-1] % 8 == 0


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
