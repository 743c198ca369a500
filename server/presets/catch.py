"""Catch (bsuite): ten rows, five columns, one ball."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.server.presets.small import ON_POLICY, ONE_TORSO, SMALL, SMALL_PPO, SMALL_PQN, SMALL_Q

TASK: Mapping[str, Any] = {
    **SMALL,
    "algorithm": "vtrace",
    "environment.env": "seedbed/Catch-v0",
    "learning.unroll_length": 10,
    "run.target_return": 0.95,
}

ALGORITHMS: Mapping[str, Mapping[str, Any]] = {
    "vtrace": {
        **ONE_TORSO,
        "learning.batch_size": 16,
        "algorithm_options.lambda_": 0.95,
        "algorithm_options.advantage": "rlax",
        "algorithm_options.popart": "off",
        "algorithm_options.entropy_cost": 0.01,
        "optimiser.learning_rate": 2e-3,
        "optimiser.clip_norm": 0.5,
    },
    "r2d2": {
        "fleet.num_envs": 16,
        "fleet.num_greedy_envs": 4,
        "learning.reward_clipping": "none",
        "learning.batch_size": 16,
        "algorithm_options.burn_in": 5,
        "algorithm_options.period": 10,
        "algorithm_options.target_period_updates": 50,
        "algorithm_options.head_size": 64,
        "algorithm_options.replay.replay_capacity": 5000,
        "algorithm_options.replay.replay_min_size": 100,
        "algorithm_options.replay.samples_per_insert": 8.0,
        "network.core_size": 64,
        "optimiser.learning_rate": 1e-3,
    },
    "apex": {
        "fleet.num_envs": 16,
        "fleet.num_greedy_envs": 4,
        "learning.batch_size": 16,
        "algorithm_options.target_period_updates": 50,
        "algorithm_options.head_size": 64,
        "algorithm_options.replay.replay_capacity": 5000,
        "algorithm_options.replay.replay_min_size": 100,
        "algorithm_options.replay.samples_per_insert": 8.0,
        "optimiser.optimiser": "adam",
        "optimiser.centred": False,
        "optimiser.learning_rate": 1e-3,
        "optimiser.epsilon": 1e-8,
    },
    "one_step_q": {
        **SMALL_Q,
    },
    "one_step_sarsa": {
        **SMALL_Q,
    },
    "pqn": {
        **SMALL_PQN,
    },
    "n_step_q": {
        **SMALL_Q,
    },
    "a2c": {
        **ON_POLICY,
    },
    "a3c": {
        **ON_POLICY,
        "learning.batch_size": 16,
    },
    "ppo": {
        **ON_POLICY,
        **SMALL_PPO,
    },
}
