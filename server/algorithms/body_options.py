"""From the options of a network to those of the body that every algorithm's network stands on."""

from __future__ import annotations

from typing import Any

import torch

from seedbed.server.options.network import NetworkConfig


def body_options(config: NetworkConfig) -> dict[str, Any]:
    """Keyword arguments of `networks.body.Body`."""
    return {
        "torso": config.torso,
        "frame_stack": config.frame_stack,
        "core": config.core,
        "core_size": config.core_size,
        "background": config.background,
        "dtype": torch.bfloat16 if config.precision == "bfloat16" else torch.float32,
    }
