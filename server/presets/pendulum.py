"""Gymnasium's Pendulum-v1: swing a pole up and hold it there. A converged policy is at about -150."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.server.presets.small import SMALL

TASK: Mapping[str, Any] = {
    **SMALL,
    "algorithm": "sac",
    "environment.env": "Pendulum-v1",
    "learning.reward_clipping": "none",
}

ALGORITHMS: Mapping[str, Mapping[str, Any]] = {
    # Small networks and batches do as well here as the published ones, in a third of the time for an update.
    "sac": {
        "fleet.num_envs": 4,
        "learning.batch_size": 128,
        "network.torso": "flat",
        "algorithm_options.hidden_size": 64,
        "optimiser.learning_rate": 1e-3,
        "run.max_steps": 15_000,
    },
}
