"""Random actions as they travel, out of those that a mask allows."""

from __future__ import annotations

import numpy as np

from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.environments.interface import Row


def some_action(spec: EnvironmentSpec, observation: Row, rng: np.random.Generator) -> Row:
    """A random action, as it travels, out of those that a mask in the observation allows."""
    mask = None if spec.mask_position is None else observation[spec.mask_position]
    parts, start = [], 0
    for action in spec.actions:
        if action.kind == "box":
            parts.append(rng.uniform(-1, 1, action.shape).astype(action.numpy_dtype))
            continue
        chosen = []
        for size in action.num_values:
            allowed = np.arange(size) if mask is None else np.flatnonzero(mask[start : start + size])
            chosen.append(rng.choice(allowed if allowed.size else np.arange(size)))
            start += size
        parts.append(np.array(chosen, action.numpy_dtype).reshape(action.shape))
    return tuple(parts)
