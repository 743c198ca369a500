"""Options of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seedbed.common.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """network"""

    torso: str = option(
        "impala_shallow",
        "reader of observations: mlp, impala_shallow, nature, impala_deep, or a plug-in's",
        metavar="NAME",
        fixed=True,
    )
    core: str = option(
        "none",
        "memory: none, lstm (fed with last action and clipped reward too), or a plug-in's",
        metavar="NAME",
        fixed=True,
    )
    core_size: int = option(256, "H, width of the memory", fixed=True)
    background: float = option(0.0, "subtracted from the pixels of images: what means nothing should be 0", fixed=True)
    frame_stack: int = option(4, "K, newest frames the network sees at once; clients send one", fixed=True)
    precision: Literal["float32", "bfloat16"] = option(
        "bfloat16", "of the torso; weights, heads, memory and losses are float32", fixed=True
    )
