"""Pong from pixels (ALE): the main job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TASK: Mapping[str, Any] = {
    "algorithm": "vtrace",
    "environment.env": "ALE/Pong-v5",
    "environment.atari_preset": "paper",
    "fleet.num_envs": 64,  # twice as many make a third more steps a second, but did not learn as well
    "serving.wait_when_idle": True,  # two messages a batch
    "serving.max_wait_ms": 3.0,
    "network.torso": "impala_shallow",
    "network.frame_stack": 4,
    "network.precision": "bfloat16",
    "network.normalise_observations": "off",
    "learning.reward_clipping": "abs_one",
    "run.log_interval_s": 10.0,
    "run.target_return": 18.0,
    "run.max_steps": 6_000_000,
}

ALGORITHMS: Mapping[str, Mapping[str, Any]] = {
    # On few cores small train batches and low-variance advantages count.
    "vtrace": {
        # Environments, inference and learning overlap: whoever waits for company leaves a core idle.
        "serving.wait_when_idle": False,
        "learning.batch_size": 8,
        "algorithm_options.lambda_": 0.95,
        "algorithm_options.advantage": "rlax",
        "algorithm_options.popart": "off",
        "algorithm_options.baseline_cost": 0.25,
        "algorithm_options.entropy_cost": 7e-4,
        "optimiser.learning_rate": 8e-4,
        "optimiser.epsilon": 1e-5,
        "optimiser.clip_norm": 0.5,
    },
    # The published networks and batches are for GPUs: an update of R2D2's takes minutes on one core. Two frames show
    # where the ball goes at half the cost of four, and to draw a transition once more costs as much as a new one.
    "r2d2": {
        "fleet.num_envs": 32,
        "fleet.num_greedy_envs": 6,
        "learning.unroll_length": 20,
        "learning.batch_size": 6,
        "learning.discount": 0.99,
        "algorithm_options.burn_in": 10,
        "algorithm_options.period": 20,
        "algorithm_options.target_period_updates": 200,
        "algorithm_options.head_size": 256,
        "algorithm_options.replay.replay_capacity": 6000,
        "algorithm_options.replay.replay_min_size": 300,
        "algorithm_options.replay.samples_per_insert": 3.0,
        "learning.reward_clipping": "none",
        "network.torso": "impala_shallow",
        "network.frame_stack": 2,
        "network.core_size": 128,
        "serving.max_wait_ms": 12.0,  # the learner is slower than the environments: few large batches disturb it least
        "optimiser.learning_rate": 5e-4,
        "optimiser.epsilon": 1e-5,
        "optimiser.clip_norm": 10.0,
    },
    # The authors' for Atari, with their network in this task's precision; the learning rate stays.
    "pqn": {
        "fleet.num_envs": 128,
        "network.torso": "nature",
    },
    "apex": {
        "fleet.num_envs": 32,
        "fleet.num_greedy_envs": 10,
        "learning.unroll_length": 16,
        "learning.batch_size": 6,
        "algorithm_options.n_step": 8,
        "algorithm_options.target_period_updates": 200,
        "algorithm_options.head_size": 256,
        "algorithm_options.replay.replay_capacity": 10_000,
        "algorithm_options.replay.replay_min_size": 400,
        "algorithm_options.replay.samples_per_insert": 3.0,
        "network.torso": "impala_shallow",
        "network.frame_stack": 2,
        "optimiser.optimiser": "adam",
        "optimiser.centred": False,
        "optimiser.learning_rate": 5e-4,
        "optimiser.epsilon": 1e-5,
        "optimiser.clip_norm": 10.0,
    },
}
