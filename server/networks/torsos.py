"""Torsos: the observations of N rows in, one feature vector per row out.

A torso sees nothing but observations and keeps no state. It computes in its `dtype`, features included.

    mlp             any observations, flattened and concatenated
    impala_shallow  IMPALA (arXiv 1802.01561, figure 3 left), for one image
    nature          DQN (Mnih et al. 2015, Nature 518, extended data table 1), for one image
    impala_deep     IMPALA's residual network (figure 3 right), for one image

Images have shape `(h, w)` or `(h, w, c)`; K stacked frames become K * c channels, oldest first. uint8 goes straight to
`dtype` (exact up to 256, in bfloat16 too) and is scaled to [0, 1] through the first layer's weights.

Shapes: N rows, K stacked frames, C channels.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seedbed.common.errors import SpecError, UsageError
from seedbed.common.specs import ArraySpec
from seedbed.server.networks.layers import HIDDEN_GAIN, Conv2d, Linear, initialise
from seedbed.server.networks.observations import (
    block_shape,
    flatten_image,
    input_scale,
    keeps_frames_apart,
    num_channels,
    num_elements,
    read_pixels,
    single_image,
    stack_channels,
    to_blocks,
)
from seedbed.server.networks.registry import find_torso

_MLP_SIZES = (64, 64)


class Torso(nn.Module):
    """What all torsos have.

    Attributes:
        output_size: length of the feature vector.
        dtype: of computation and features.
        block: edge of the blocks in which it reads the pixels of an image; see `PolicyNetwork.blocks`.
    """

    def __init__(self, output_size: int, dtype: torch.dtype, block: int = 1) -> None:
        super().__init__()
        self.output_size = output_size
        self.dtype = dtype
        self.block = block

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """Each `[N, K, *spec.shape]`, or in blocks, in; `[N, output_size]` of `dtype` out."""
        raise NotImplementedError


class MLP(Torso):
    """Two fully connected layers over all observations.

    Tanh does better than ReLU on small control tasks (arXiv 2006.05990, section 3.2).
    """

    def __init__(self, observation_specs: tuple[ArraySpec, ...], frame_stack: int, dtype: torch.dtype) -> None:
        super().__init__(_MLP_SIZES[-1], dtype)
        self._scales = tuple(input_scale(spec) for spec in observation_specs)
        widths = (frame_stack * sum(num_elements(spec) for spec in observation_specs), *_MLP_SIZES)
        layers = [Linear(*pair) for pair in itertools.pairwise(widths)]
        for layer in layers:
            initialise(layer, HIDDEN_GAIN)
        self.layers = nn.ModuleList(layers)

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """See `Torso`."""
        flat = [x.flatten(1).to(self.dtype) for x in observations]
        scaled = [x if scale == 1.0 else x * scale for x, scale in zip(flat, self._scales, strict=True)]
        x = scaled[0] if len(scaled) == 1 else torch.cat(scaled, dim=-1)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


class ConvTorso(Torso):
    """Convolutions without padding, then one hidden layer, all followed by ReLU.

    Where the image allows it the first convolution reads blocks of pixels as large as its stride: the same sums over
    the same pixels, in another order.

    Args:
        filters: (filters, kernel, stride) of each convolution.
    """

    def __init__(
        self,
        observation_specs: tuple[ArraySpec, ...],
        frame_stack: int,
        dtype: torch.dtype,
        background: float,
        filters: tuple[tuple[int, int, int], ...],
        hidden_size: int,
    ) -> None:
        spec = single_image(observation_specs)
        block = _block_of(spec, *filters[0][1:])
        super().__init__(hidden_size, dtype, block)
        self.background = background
        channels, height, width = num_channels(spec, frame_stack), *spec.shape[:2]
        self._frame_shape = block_shape(tuple(spec.shape), block)
        if block > 1:
            channels, height, width = channels * block * block, height // block, width // block
            filters = ((filters[0][0], filters[0][1] // block, 1), *filters[1:])
        scale = input_scale(spec)
        self.convolutions = nn.ModuleList()
        for num_filters, kernel, stride in filters:
            layer = Conv2d(channels, num_filters, kernel, stride=stride, input_scale=scale)
            initialise(layer, HIDDEN_GAIN)
            self.convolutions.append(layer)
            channels, scale = num_filters, 1.0
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
            if height < 1 or width < 1:
                raise SpecError(
                    f"observation {spec.name!r}: this torso expects larger images, got {spec}; "
                    "take 'impala_deep' or 'mlp'"
                )
        self.hidden = Linear(channels * height * width, hidden_size)
        initialise(self.hidden, HIDDEN_GAIN)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload the stubs lack

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """See `Torso`."""
        frames = self._in_blocks(observations[0])
        first, *others = self.convolutions
        assert isinstance(first, Conv2d)
        apart = keeps_frames_apart(frames)
        pixels = read_pixels(frames if apart else stack_channels(frames), self.dtype, self.background)
        x = torch.relu(first.over_frames(pixels) if apart else first(pixels))
        for layer in others:
            x = torch.relu(layer(x))
        return torch.relu(self.hidden(flatten_image(x)))

    def _in_blocks(self, frames: Tensor) -> Tensor:
        if tuple(frames.shape[2:]) == self._frame_shape:
            return frames
        return to_blocks(frames.flatten(0, 1), self.block).unflatten(0, frames.shape[:2])


def _block_of(image: ArraySpec, kernel: int, stride: int) -> int:
    """The stride, where kernel and image consist of whole blocks of that size."""
    fits = all(size % stride == 0 for size in (kernel, *image.shape[:2]))
    return stride if fits else 1


class ResidualSection(nn.Module):
    """Convolution 3x3, max-pooling to half the size, two residual blocks: `[N, C, h, w]` to `[N, filters, h/2, w/2]`.

    The skips carry the scale, so the blocks' convolutions start with gain 1, as in IMPALA's code: with more, six blocks
    would multiply the variance by 64.
    """

    def __init__(self, channels: int, filters: int, input_scale: float) -> None:
        super().__init__()
        self.entry = Conv2d(channels, filters, 3, padding=1, input_scale=input_scale)
        initialise(self.entry, HIDDEN_GAIN)
        blocks = [Conv2d(filters, filters, 3, padding=1) for _ in range(4)]
        for layer in blocks:
            initialise(layer, 1.0)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """One section; sizes are halved upwards."""
        x = F.max_pool2d(self.entry(x), kernel_size=3, stride=2, padding=1)
        for first, second in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            x = x + second(torch.relu(first(torch.relu(x))))
        return x


class ResidualTorso(Torso):
    """IMPALA's deep network: three residual sections of 16, 32 and 32 filters, then 256 units."""

    def __init__(
        self, observation_specs: tuple[ArraySpec, ...], frame_stack: int, dtype: torch.dtype, background: float
    ) -> None:
        super().__init__(256, dtype)
        self.background = background
        spec = single_image(observation_specs)
        channels, height, width = num_channels(spec, frame_stack), *spec.shape[:2]
        scale = input_scale(spec)
        self.sections = nn.ModuleList()
        for filters in (16, 32, 32):
            self.sections.append(ResidualSection(channels, filters, scale))
            channels, scale = filters, 1.0
            height, width = (height + 1) // 2, (width + 1) // 2
        self.hidden = Linear(channels * height * width, 256)
        initialise(self.hidden, HIDDEN_GAIN)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload the stubs lack

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """See `Torso`."""
        x = read_pixels(stack_channels(observations[0]), self.dtype, self.background)
        for section in self.sections:
            x = section(x)
        return torch.relu(self.hidden(flatten_image(torch.relu(x))))


def mlp(shown: tuple[ArraySpec, ...], frame_stack: int, dtype: torch.dtype, background: float) -> MLP:
    """The multi-layer perceptron; a background means nothing to it."""
    return MLP(shown, frame_stack, dtype)


def impala_shallow(shown: tuple[ArraySpec, ...], frame_stack: int, dtype: torch.dtype, background: float) -> ConvTorso:
    """IMPALA's shallow network."""
    return ConvTorso(shown, frame_stack, dtype, background, ((16, 8, 4), (32, 4, 2)), 256)


def nature(shown: tuple[ArraySpec, ...], frame_stack: int, dtype: torch.dtype, background: float) -> ConvTorso:
    """DQN's network."""
    return ConvTorso(shown, frame_stack, dtype, background, ((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512)


def make_torso(
    name: str,
    observation_specs: tuple[ArraySpec, ...],
    frame_stack: int = 1,
    *,
    dtype: torch.dtype = torch.float32,
    background: float = 0.0,
) -> Torso:
    """Builds the torso of that name.

    Args:
        name: see the module, or that of a plug-in.
        observation_specs: of one frame.
        frame_stack: K.
        dtype: of computation, torch.float32 or torch.bfloat16; weights start in float32 in both cases.
        background: value of an image's pixels that means nothing, subtracted from it; see `read_pixels`.

    Raises:
        SpecError: the observations are not what this torso can read.
        UsageError: there is none of that name, or it makes something else.
        ValueError: an option makes no sense.
    """
    if frame_stack < 1:
        raise ValueError(f"expected frame_stack of at least 1, got {frame_stack}")
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"expected dtype torch.float32 or torch.bfloat16, got {dtype}")
    torso = find_torso(name)(observation_specs, frame_stack, dtype=dtype, background=background)
    if not isinstance(torso, Torso):
        raise UsageError(f"--torso {name}: expected it to make a {Torso.__module__}.Torso, got {type(torso).__name__}")
    return torso
