"""Options of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seedbed.common.errors import UsageError
from seedbed.common.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """network"""

    torso: str = option(
        "auto",
        "network that reads observations: auto (an encoder for each array), mlp, flat (no layers), impala_shallow, "
        "nature, impala_deep, "
        "a plug-in's name, or your own MODULE:CLASS",
        metavar="NAME",
        fixed=True,
    )
    core: str = option(
        "none",
        "memory: none, lstm (fed with last action and clipped reward too), a plug-in's name, or your own MODULE:CLASS",
        metavar="NAME",
        fixed=True,
    )
    core_size: int = option(256, "H, width of the memory", minimum=1, fixed=True)
    normalise_layers: bool = option(
        False,
        "layer normalisation before every activation of torso and heads, over the channels of each pixel in "
        "convolutions",
        fixed=True,
    )
    layer_sizes: str = option(
        "64,64",
        "widths of the layers over numbers, of torso mlp and of auto's encoder, first to last",
        metavar="N,N",
        fixed=True,
    )
    activation: Literal["tanh", "relu"] = option("tanh", "activation of these layers", fixed=True)
    background: float = option(
        0.0, "value subtracted from the pixels of images: what means nothing should be 0", fixed=True
    )
    frame_stack: int | None = option(
        None,
        "K, newest frames of every observation array that the network sees at once; clients send one "
        "(default: 4 of grey images, 1 of all else)",
        minimum=1,
        fixed=True,
    )
    precision: Literal["float32", "bfloat16"] | None = option(
        None,
        "precision of the network that reads images of bytes, 32 pixels a side or more; all else is float32 "
        "(default: bfloat16 where such are shown)",
        fixed=True,
    )

    normalise_observations: Literal["auto", "on", "off"] = option(
        "auto",
        "normalise vectors, and the channels of images below 32 pixels a side, by their running mean and standard "
        "deviation; auto is what the algorithm and the environment ask for",
        fixed=True,
    )

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the layers over numbers."""
        return tuple(map(int, self.layer_sizes.split(",")))

    def __post_init__(self) -> None:
        widths = self.layer_sizes.split(",")
        if not all(width.isdigit() and int(width) > 0 for width in widths):
            raise UsageError(f"expected --layer-sizes of numbers of at least 1, as in 64,64, got {self.layer_sizes!r}")
        if self.frame_stack is not None and self.frame_stack < 1:
            raise UsageError(f"expected --frame-stack of at least 1, got {self.frame_stack}")
