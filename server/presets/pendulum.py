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

# Small networks and batches do as well here as the published ones, in a third of the time for an update.
_FROM_REPLAY: Mapping[str, Any] = {
    "fleet.num_envs": 16,
    "learning.batch_size": 128,
    "network.torso": "flat",
    "algorithm_options.hidden_size": 64,
    "optimiser.learning_rate": 1e-3,
    "run.max_steps": 15_000,
}

ALGORITHMS: Mapping[str, Mapping[str, Any]] = {
    # Returns go from -1,600 to -100: without scaled values and observations nothing is learnt in this time.
    "ppo": {
        "fleet.num_envs": 16,
        "learning.unroll_length": 64,
        "network.normalise_observations": "on",
        "algorithm_options.popart": "on",
        "algorithm_options.popart_rate": 0.1,
        "algorithm_options.separate_value_torso": True,
        "algorithm_options.epochs": 10,
        "algorithm_options.minibatches": 4,
        "algorithm_options.clip_ratio": 0.2,
        "algorithm_options.entropy_cost": 0.0,
        "optimiser.learning_rate": 1e-3,
        "run.max_steps": 200_000,
    },
    # Continuous control as published (Mnih et al. 2016, supplement, section 9): networks that share nothing, one
    # variance for all elements, its entropy in the loss, and an update for every episode, of 200 steps here.
    "a3c": {
        "fleet.num_envs": 16,
        "learning.unroll_length": 201,  # and the step from an episode to the next
        "network.layer_sizes": "200",
        "network.activation": "relu",
        "network.core": "lstm",
        "network.core_size": 128,
        "algorithm_options.popart": "off",
        "algorithm_options.separate_value_torso": True,
        "algorithm_options.deviation": "shared",
        "algorithm_options.entropy_cost": 0.0,
        "algorithm_options.continuous_entropy_cost": 1e-4,
    },
    "sac": _FROM_REPLAY,
    "td3": _FROM_REPLAY,
}
