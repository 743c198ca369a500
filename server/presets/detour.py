"""Detour: the more is paid, the more it varies. With --risk-variance 1 the best policy is random and pays 1.158 a step.

A looser bound, where the variance of what is tried is large, wants more steps in a train batch: see docs/algorithms.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.server.presets.small import SMALL

TASK: Mapping[str, Any] = {
    **SMALL,
    "algorithm": "ppo",
    "environment.env": "seedbed/Detour-v0",
    "learning.reward_clipping": "none",
    "learning.discount": 0.95,
    "learning.unroll_length": 8,
    "run.max_steps": 400_000,
}

ALGORITHMS: Mapping[str, Mapping[str, Any]] = {
    "ppo": {
        "algorithm_options.policy_step": "energy",
        "algorithm_options.energy_step": 0.2,
        "algorithm_options.temperature": 0.1,
        "algorithm_options.lambda_": 0.95,
        "algorithm_options.popart": "off",
        "algorithm_options.entropy_cost": 0.0,
        "algorithm_options.separate_value_torso": True,
        "algorithm_options.epochs": 4,
        "algorithm_options.minibatches": 4,
        "optimiser.learning_rate": 3e-3,
        "optimiser.final_learning_rate_share": 1.0,
        "optimiser.epsilon": 1e-5,
        "optimiser.clip_norm": 0.5,
    },
}
