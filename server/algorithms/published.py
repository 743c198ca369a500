"""Published settings that several algorithms share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.networks.array_kinds import image_of

ASYNCHRONOUS: Mapping[str, Any] = {
    "learning.unroll_length": 5,
    "learning.batch_size": 1,
    "optimiser.optimiser": "rmsprop_tf",
    "optimiser.learning_rate": 7e-4,
    "optimiser.clip_norm": float("inf"),
}
"""The asynchronous methods (Mnih et al. 2016, arXiv 1602.01783), section 5.1 and the supplement, section 8: an update
for every five steps of one actor, gradients never clipped. The paper draws the learning rate; 7e-4 is what others
settled on for A3C."""

_DQN_LEAST_SIDE = 36


def dqn_torso(spec: EnvironmentSpec) -> Mapping[str, Any]:
    """DQN's network, where an image that it can read is all that is shown; else no value."""
    images = [image_of(array) for array in spec.shown]
    fits = len(images) == 1 and images[0] is not None and min(images[0].height, images[0].width) >= _DQN_LEAST_SIDE
    return {"network.torso": "nature"} if fits else {}
