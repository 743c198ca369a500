"""Torsos for one image, channels last: K stacked frames of c channels become K * c channels, oldest first.

    impala_shallow  IMPALA (arXiv 1802.01561, figure 3 left)
    nature          DQN (Mnih et al. 2015, Nature 518, extended data table 1)
    impala_deep     IMPALA's residual network (figure 3 right)
    SmallImage      images of fewer than 32 pixels a side, for `auto` alone

Bytes go straight to the dtype of computation (exact up to 256, in bfloat16 too); images are scaled to [-1, 1] by their
bounds through the first layer's weights.

Shapes: N rows, K stacked frames, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec
from seedbed.server.networks.array_kinds import computes_in_half, is_pixels
from seedbed.server.networks.layers import HIDDEN_GAIN, Conv2d, Linear, channel_norm, initialise, layer_norm
from seedbed.server.networks.observations import (
    block_shape,
    flatten_image,
    has_many_values,
    input_scale,
    keeps_frames_apart,
    num_channels,
    read_pixels,
    single_image,
    squash,
    stack_channels,
    to_blocks,
)
from seedbed.server.networks.torso import Torso
from seedbed.server.options.network import NetworkConfig

Filters = tuple[tuple[int, int, int], ...]
"""(filters, kernel, stride) of each convolution."""


class ImageTorso(Torso):
    """Base of torsos for one image, which may compute in bfloat16, all of their layers.

    Attributes:
        dtype: of computation and features.
        background: value of the pixels that means nothing; see `read_pixels`. Values of small images may be names.
    """

    def __init__(self, shown: Sequence[ArraySpec], config: NetworkConfig, frame_stacks: Sequence[int]) -> None:
        """See `Torso`."""
        super().__init__(shown, config, frame_stacks)
        image = single_image(shown)
        half = computes_in_half(image) and config.precision != "float32"
        self.dtype = torch.bfloat16 if half else torch.float32
        self.background = config.background if is_pixels(image) else 0.0

    def store_for_acting(self) -> None:
        """See `Torso`: spares a cast in every forward."""
        self.to(self.dtype)


class ConvTorso(ImageTorso):
    """Convolutions without padding, then one hidden layer, all followed by ReLU.

    Where the image allows it the first convolution reads blocks of pixels as large as its stride: the same sums over
    the same pixels, in another order.

    Attributes:
        filters: its convolutions.
        squashes: integers with many possible values are squashed, not scaled.
    """

    filters: Filters
    squashes: bool = False

    def __init__(self, shown: Sequence[ArraySpec], config: NetworkConfig, frame_stacks: Sequence[int]) -> None:
        """See `Torso`."""
        super().__init__(shown, config, frame_stacks)
        spec, filters = shown[0], self.filters
        block = _block_of(spec, *filters[0][1:])
        self.blocks = (block,)
        channels, height, width = num_channels(spec, frame_stacks[0]), *spec.shape[:2]
        self._frame_shape = block_shape(tuple(spec.shape), block)
        if block > 1:
            channels, height, width = channels * block * block, height // block, width // block
            filters = ((filters[0][0], filters[0][1] // block, 1), *filters[1:])
        self._squashed = self.squashes and has_many_values(spec)
        scale = 1.0 if self._squashed else input_scale(spec)
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList(channel_norm(layer[0], config) for layer in filters)
        for num_filters, kernel, stride in filters:
            layer = Conv2d(channels, num_filters, kernel, stride=stride, input_scale=scale)
            initialise(layer, HIDDEN_GAIN)
            self.convolutions.append(layer)
            channels, scale = num_filters, 1.0
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
            if height < 1 or width < 1:
                raise SpecError(
                    f"observation {spec.name!r}: this torso expects larger images, got {spec}; "
                    "take 'auto', 'impala_deep' or 'mlp'"
                )
        self.hidden = Linear(channels * height * width, self.output_size)
        self.hidden_norm = layer_norm(self.output_size, config)
        initialise(self.hidden, HIDDEN_GAIN)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload the stubs lack

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """See `Torso`."""
        frames = self._in_blocks(observations[0])
        return self._features(frames if keeps_frames_apart(frames) else stack_channels(frames))

    def unrolls(self, frames: Tensor) -> Tensor | None:
        """See `Torso`: the first convolution reaches over all rows of an unroll as it does over the frames of one."""
        stored = self.blocks[0] > 1 and tuple(frames.shape[2:]) == self._frame_shape
        if not stored or not keeps_frames_apart(frames) or type(self).forward is not ConvTorso.forward:
            return None
        features = self._features(frames)
        return features.unflatten(0, (len(frames), -1)).transpose(0, 1).contiguous()

    def _features(self, frames: Tensor) -> Tensor:
        """`[N, C, h, w]`, or `[N, T + K - 1, h, w, c]` whose frames are kept apart, to `[N * T, F]`."""
        first, *others = self.convolutions
        assert isinstance(first, Conv2d)
        pixels = read_pixels(frames, self.dtype, self.background)
        if self._squashed:
            pixels = squash(pixels)
        first_norm, *other_norms = self.norms
        x = torch.relu(first_norm(first.over_frames(pixels) if pixels.dim() == 5 else first(pixels)))
        for layer, norm in zip(others, other_norms, strict=True):
            x = torch.relu(norm(layer(x)))
        return torch.relu(self.hidden_norm(self.hidden(flatten_image(x))))

    def _in_blocks(self, frames: Tensor) -> Tensor:
        if tuple(frames.shape[2:]) == self._frame_shape:
            return frames
        return to_blocks(frames.flatten(0, 1), self.blocks[0]).unflatten(0, frames.shape[:2])


class ImpalaShallow(ConvTorso):
    """IMPALA's small network."""

    filters = ((16, 8, 4), (32, 4, 2))
    output_size = 256


class Nature(ConvTorso):
    """DQN's network."""

    filters = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    output_size = 512


class SmallImage(ConvTorso):
    """Convolutions that miss no pixel, for images in which one may be a wall or a door.

    MiniGrid shows 0 to 10 in a space to 255: divided by that all would look alike.
    """

    filters = ((16, 3, 1), (32, 3, 1))
    output_size = 256
    squashes = True


def _block_of(image: ArraySpec, kernel: int, stride: int) -> int:
    """The stride, where kernel and image consist of whole blocks of that size."""
    fits = all(size % stride == 0 for size in (kernel, *image.shape[:2]))
    return stride if fits else 1


class ResidualSection(nn.Module):
    """Convolution 3x3, max-pooling to half the size, two residual blocks: `[N, C, h, w]` to `[N, filters, h/2, w/2]`.

    The skips carry the scale, so the blocks' convolutions start with gain 1, as in IMPALA's code: with more, six blocks
    would multiply the variance by 64.
    """

    def __init__(self, channels: int, filters: int, input_scale: float, config: NetworkConfig) -> None:
        super().__init__()
        self.entry = Conv2d(channels, filters, 3, padding=1, input_scale=input_scale)
        initialise(self.entry, HIDDEN_GAIN)
        blocks = [Conv2d(filters, filters, 3, padding=1) for _ in range(4)]
        for layer in blocks:
            initialise(layer, 1.0)
        self.blocks = nn.ModuleList(blocks)
        self.norms = nn.ModuleList(channel_norm(filters, config) for _ in blocks)

    def forward(self, x: Tensor) -> Tensor:
        """One section; sizes are halved upwards."""
        x = F.max_pool2d(self.entry(x), kernel_size=3, stride=2, padding=1)
        layers = list(zip(self.blocks, self.norms, strict=True))
        for (first, before), (second, between) in zip(layers[::2], layers[1::2], strict=True):
            x = x + second(torch.relu(between(first(torch.relu(before(x))))))
        return x


class ImpalaDeep(ImageTorso):
    """IMPALA's deep network: three residual sections of 16, 32 and 32 filters, then 256 units."""

    output_size = 256

    def __init__(self, shown: Sequence[ArraySpec], config: NetworkConfig, frame_stacks: Sequence[int]) -> None:
        """See `Torso`."""
        super().__init__(shown, config, frame_stacks)
        spec = shown[0]
        channels, height, width = num_channels(spec, frame_stacks[0]), *spec.shape[:2]
        scale = input_scale(spec)
        self.sections = nn.ModuleList()
        for filters in (16, 32, 32):
            self.sections.append(ResidualSection(channels, filters, scale, config))
            channels, scale = filters, 1.0
            height, width = (height + 1) // 2, (width + 1) // 2
        self.norm = channel_norm(channels, config)
        self.hidden = Linear(channels * height * width, self.output_size)
        self.hidden_norm = layer_norm(self.output_size, config)
        initialise(self.hidden, HIDDEN_GAIN)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload the stubs lack

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """See `Torso`."""
        x = read_pixels(stack_channels(observations[0]), self.dtype, self.background)
        for section in self.sections:
            x = section(x)
        return torch.relu(self.hidden_norm(self.hidden(flatten_image(torch.relu(self.norm(x))))))
