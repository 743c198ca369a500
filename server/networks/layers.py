"""Layers that compute in the dtype of their input, and how weights start.

Master weights are float32. A torso may run in bfloat16: then these layers cast their weights first and do anything
else after, so that a copy whose weights are *stored* in bfloat16 computes bit for bit what the master computes, and
its cast costs nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seedbed.server.options.network import NetworkConfig

HIDDEN_GAIN = 2.0**0.5  # keeps the second moment through a ReLU (He et al. 2015, arXiv 1502.01852)


class Linear(nn.Linear):
    """`nn.Linear` in the dtype of its input, whatever its weights are stored in."""

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`."""
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` in the dtype of its input, whatever its weights are stored in.

    Args:
        input_scale: multiplies the weights instead of the input: scaling pixels to [0, 1] this way costs a pass over
            a few thousand weights, not over every pixel of the batch.
    """

    def __init__(
        self, channels: int, filters: int, kernel: int, *, stride: int = 1, padding: int = 0, input_scale: float = 1.0
    ) -> None:
        super().__init__(channels, filters, kernel, stride=stride, padding=padding)
        self.input_scale = input_scale

    def forward(self, x: Tensor) -> Tensor:
        """`[N, channels, h, w]` to `[N, filters, h', w']`."""
        weight, bias = self._parameters_in(x.dtype)
        return F.conv2d(x, weight, bias, self.stride, self.padding)

    def over_frames(self, frames: Tensor) -> Tensor:
        """The same sums over frames that are not interleaved: a convolution that reaches over time as well.

        Args:
            frames: `[N, K + T - 1, h, w, c]`, oldest frame first; K * c are the channels of this layer.

        Returns:
            `[N * T, filters, h', w']`, of every K consecutive frames.
        """
        weight, bias = self._parameters_in(frames.dtype)
        weight = weight.unflatten(1, (-1, frames.shape[4])).movedim(1, 2)
        stride, padding = (1, *self.stride), (0, *self.padding)
        return F.conv3d(frames.movedim(4, 1), weight, bias, stride, padding).movedim(2, 1).flatten(0, 1)

    def _parameters_in(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        weight = self.weight.to(dtype)
        if self.input_scale != 1.0:
            weight = weight * self.input_scale
        assert self.bias is not None
        return weight, self.bias.to(dtype)


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` (arXiv 1607.06450) in the dtype of its input, whatever its weights are stored in."""

    def forward(self, x: Tensor) -> Tensor:
        """`[..., features]` to the same."""
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class ChannelNorm(LayerNorm):
    """Layer normalisation over the channels of each pixel, as in purejaxql's convolutions: any size of image."""

    def forward(self, x: Tensor) -> Tensor:
        """`[N, channels, h, w]` to the same."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def layer_norm(size: int, config: NetworkConfig) -> nn.Module:
    """What stands between a layer of `size` outputs and its activation: nothing, unless `--normalise-layers`."""
    return LayerNorm(size) if config.normalise_layers else nn.Identity()


def channel_norm(channels: int, config: NetworkConfig) -> nn.Module:
    """The same behind a convolution."""
    return ChannelNorm(channels) if config.normalise_layers else nn.Identity()


def initialise(layer: nn.Linear | nn.Conv2d, gain: float) -> None:
    """Orthogonal weights times `gain`, zero biases.

    Orthogonal rows keep the scale of signals and gradients whatever the depth and width (Saxe et al. 2014, arXiv
    1312.6120). Zero biases favour no action and no feature.
    """
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        with torch.no_grad():
            layer.bias.zero_()
