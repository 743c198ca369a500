"""Settings of the asynchronous methods (Mnih et al. 2016, arXiv 1602.01783), which two families share.

Section 5.1 and the supplement, section 8: an update for every five steps of one actor, gradients never clipped. The
paper draws the learning rate; 7e-4 is what others settled on for A3C.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ASYNCHRONOUS: Mapping[str, Any] = {
    "learning.unroll_length": 5,
    "learning.batch_size": 1,
    "optimiser.optimiser": "rmsprop_tf",
    "optimiser.learning_rate": 7e-4,
    "optimiser.clip_norm": float("inf"),
}
"""Dotted option -> value."""
