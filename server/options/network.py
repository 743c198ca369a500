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
        "memory, fed with last action and clipped reward too: none, lstm, gtrxl (a transformer with gates), trxl "
        "(without), a plug-in's name, or your own MODULE:CLASS",
        metavar="NAME",
        fixed=True,
    )
    core_size: int = option(256, "H, width of the memory", minimum=1, fixed=True)
    core_layers: int = option(2, "trxl, gtrxl: L, layers", minimum=1, fixed=True)
    core_heads: int = option(4, "trxl, gtrxl: heads of a layer", minimum=1, fixed=True)
    core_head_size: int | None = option(
        None, "trxl, gtrxl: width of a head (default: core size / heads)", minimum=1, fixed=True
    )
    core_feed_forward: int | None = option(
        None, "trxl, gtrxl: width between a layer's last two (default: 2 * core size)", minimum=1, fixed=True
    )
    core_memory: int = option(32, "trxl, gtrxl: M, rows back that each layer looks", minimum=1, fixed=True)
    core_memory_precision: Literal["float32", "bfloat16"] = option(
        "float32", "trxl, gtrxl: precision of the rows that are remembered; bfloat16 takes half of the room", fixed=True
    )
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
        0.0,
        "value subtracted from the pixels of images of 32 pixels a side or more: what means nothing should be 0 "
        "(default: the median of their pixels)",
        fixed=True,
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

    task_input: bool = option(
        False,
        "several tasks: the network is told which of them a row belongs to, by a layer over the torso's features with "
        "a gain and a shift of each task; without it one policy has to see what it plays",
        fixed=True,
    )
    num_tasks: int = option(1, "tasks of the run", minimum=1, fixed=True, hidden=True)
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

    @property
    def attends(self) -> bool:
        """Whether the memory is one of those by attention."""
        return self.core in ("trxl", "gtrxl")

    @property
    def core_head_width(self) -> int:
        """Of attention."""
        return self.core_size // self.core_heads if self.core_head_size is None else self.core_head_size

    @property
    def core_feed_forward_width(self) -> int:
        """Of a transformer's layers of each row alone."""
        return 2 * self.core_size if self.core_feed_forward is None else self.core_feed_forward

    def __post_init__(self) -> None:
        if self.attends and self.core_size % 2:
            raise UsageError(f"expected an even --core-size with --core {self.core}, got {self.core_size}")
        if self.attends and self.core_head_size is None and self.core_size % self.core_heads:
            raise UsageError(
                f"expected --core-heads that divide --core-size {self.core_size}, or a --core-head-size, "
                f"got {self.core_heads}"
            )
        widths = self.layer_sizes.split(",")
        if not all(width.isdigit() and int(width) > 0 for width in widths):
            raise UsageError(f"expected --layer-sizes of numbers of at least 1, as in 64,64, got {self.layer_sizes!r}")
        if self.frame_stack is not None and self.frame_stack < 1:
            raise UsageError(f"expected --frame-stack of at least 1, got {self.frame_stack}")
