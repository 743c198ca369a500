"""Gymnasium's CartPole-v1, to a mean return of 475 of 500."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.server.presets.small import ON_POLICY, ONE_TORSO, SMALL, SMALL_PPO, SMALL_PQN, SMALL_Q

TASK: Mapping[str, Any] = {
    **SMALL,
    "algorithm": "vtrace",
    "environment.env": "CartPole-v1",
    "learning.discount": 0.98,
    "learning.reward_clipping": "none",
    "run.target_return": 475.0,
}

_RETURNS = {
    "algorithm_options.baseline_cost": 0.05,  # returns of tens would drown the policy gradient in a shared torso
    "algorithm_options.entropy_cost": 1e-3,
}

ALGORITHMS: Mapping[str, Mapping[str, Any]] = {
    "vtrace": {
        **ONE_TORSO,
        **_RETURNS,
        "learning.batch_size": 8,
        "algorithm_options.lambda_": 0.95,
        "algorithm_options.advantage": "rlax",
        "algorithm_options.popart": "off",
        "optimiser.learning_rate": 2e-3,
    },
    "a2c": {
        **ON_POLICY,
        **_RETURNS,
        "learning.unroll_length": 5,
    },
    "a3c": {
        **ON_POLICY,
        **_RETURNS,
        "learning.unroll_length": 5,
        "learning.batch_size": 32,
    },
    "ppo": {
        **ON_POLICY,
        **_RETURNS,
        **SMALL_PPO,
    },
    # Few environments that explore, many draws of each unroll: the learner is dearer than the steps here.
    "r2d2": {
        "fleet.num_envs": 16,
        "fleet.num_greedy_envs": 8,
        "learning.unroll_length": 20,
        "learning.batch_size": 32,
        "algorithm_options.burn_in": 10,
        "algorithm_options.period": 20,
        "algorithm_options.target_period_updates": 100,
        "algorithm_options.head_size": 64,
        "algorithm_options.replay.replay_capacity": 5000,
        "algorithm_options.replay.replay_min_size": 50,
        "algorithm_options.replay.samples_per_insert": 16.0,
        "network.core_size": 64,
        "optimiser.learning_rate": 2e-3,
    },
    # Values rescaled, unlike the paper; the learning rate falls to 0, so that what was learnt stays. Half of the
    # environments show the score: they are cheap here, and 100 episodes of 500 steps go by sooner.
    "apex": {
        "fleet.num_envs": 24,
        "fleet.num_greedy_envs": 12,
        "learning.unroll_length": 8,
        "learning.batch_size": 16,
        "learning.discount": 0.99,
        "algorithm_options.target_period_updates": 200,
        "algorithm_options.rescale_values": True,
        "algorithm_options.head_size": 64,
        "algorithm_options.replay.replay_capacity": 10_000,
        "algorithm_options.replay.replay_min_size": 200,
        "algorithm_options.replay.samples_per_insert": 16.0,
        "optimiser.optimiser": "adam",
        "optimiser.centred": False,
        "optimiser.learning_rate": 1e-3,
        "optimiser.final_learning_rate_share": 0.0,
        "optimiser.epsilon": 1e-8,
        "optimiser.clip_norm": 10.0,
        "run.max_steps": 500_000,
    },
    "one_step_q": {
        **SMALL_Q,
        "algorithm_options.target_period_updates": 100,
        "run.max_steps": 1_000_000,
    },
    "one_step_sarsa": {
        **SMALL_Q,
    },
    "pqn": {
        **SMALL_PQN,
        "learning.discount": 0.98,
        "algorithm_options.lambda_": 0.65,
        "optimiser.learning_rate": 2e-3,
    },
    # Returns over several steps of environments that explore say less about a far future.
    "n_step_q": {
        **SMALL_Q,
        "learning.discount": 0.98,
        "algorithm_options.target_period_updates": 100,
        "run.max_steps": 700_000,
    },
}
