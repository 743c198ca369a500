"""A memory chain (bsuite) of length 7: only a recurrent policy can do better than 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.server.presets.small import ON_POLICY, ONE_TORSO, SMALL, SMALL_PPO, SMALL_PQN, SMALL_Q

TASK: Mapping[str, Any] = {
    **SMALL,
    "algorithm": "vtrace",
    "environment.env": "seedbed/MemoryChain-v0",
    "network.core": "lstm",
    "network.core_size": 64,
    "learning.unroll_length": 16,
    "run.target_return": 0.9,
}

ALGORITHMS: Mapping[str, Mapping[str, Any]] = {
    "r2d2": {
        "fleet.num_envs": 16,
        "fleet.num_greedy_envs": 4,
        "learning.reward_clipping": "none",
        "learning.batch_size": 32,
        "algorithm_options.burn_in": 8,
        "algorithm_options.period": 16,
        "algorithm_options.target_period_updates": 100,
        "algorithm_options.head_size": 64,
        "algorithm_options.replay.replay_capacity": 5000,
        "algorithm_options.replay.replay_min_size": 200,
        "algorithm_options.replay.samples_per_insert": 8.0,
        "optimiser.learning_rate": 1e-3,
    },
    # The control: without a memory it cannot learn this.
    "apex": {
        "fleet.num_envs": 16,
        "fleet.num_greedy_envs": 4,
        "learning.unroll_length": 4,
        "learning.batch_size": 64,
        "algorithm_options.target_period_updates": 100,
        "algorithm_options.head_size": 64,
        "algorithm_options.replay.replay_capacity": 20_000,
        "algorithm_options.replay.replay_min_size": 1000,
        "algorithm_options.replay.samples_per_insert": 8.0,
        "network.core": "none",
        "optimiser.optimiser": "adam",
        "optimiser.centred": False,
        "optimiser.learning_rate": 1e-3,
        "optimiser.epsilon": 1e-8,
    },
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
    "ald": {
        **ONE_TORSO,
        "network.core_memory": 16,
        "learning.batch_size": 16,
        "algorithm_options.lambda_": 0.95,
        "algorithm_options.advantage": "rlax",
        "algorithm_options.popart": "off",
        "algorithm_options.entropy_cost": 0.01,
        "optimiser.learning_rate": 2e-3,
        "optimiser.clip_norm": 0.5,
    },
    "one_step_q": {
        "learning.batch_size": 1,
    },
    "one_step_sarsa": {
        "learning.batch_size": 1,
    },
    "pqn": {
        **SMALL_PQN,
    },
    "n_step_q": {
        **SMALL_Q,
        "learning.unroll_length": 16,
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
