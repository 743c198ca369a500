"""Named settings that work. They change defaults; explicit options win over them.

What belongs to a task (`PRESETS`) holds for every algorithm. What an algorithm was published with (`PUBLISHED`) lies
beneath it, what was found to work for one algorithm on one task (`TUNED`) above.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.common.errors import UsageError

Values = Mapping[str, Any]
"""Dotted option -> value."""

_SMALL: Values = {
    "network.torso": "mlp",
    "network.frame_stack": 1,
    "network.precision": "float32",
    "fleet.num_envs": 32,
    "run.max_steps": 1_000_000,
    "run.log_interval_s": 2.0,
}

PRESETS: Mapping[str, Values] = {
    # The main job: ALE Pong from pixels.
    "pong": {
        "environment.env": "ALE/Pong-v5",
        "environment.atari_preset": "paper",
        "fleet.num_envs": 64,
        "serving.wait_when_idle": True,  # two messages a batch: +6 % on two cores
        "serving.max_wait_ms": 3.0,
        "network.background": 87.0,  # the colour of the field; without it most filters die in the first minute
        "run.target_return": 18.0,
        "run.max_steps": 6_000_000,
    },
    # Gymnasium's CartPole-v1 to a mean return of 475 of 500.
    "cartpole": {
        **_SMALL,
        "environment.env": "CartPole-v1",
        "learning.discount": 0.98,
        "learning.reward_clipping": "none",
        "run.target_return": 475.0,
    },
    # Catch (bsuite): ten rows, five columns, one ball.
    "catch": {
        **_SMALL,
        "environment.env": "seedbed/Catch-v0",
        "learning.unroll_length": 10,
        "run.target_return": 0.95,
    },
    # A memory chain (bsuite) of length 7: only a recurrent policy can do better than 0.
    "memory": {
        **_SMALL,
        "environment.env": "seedbed/MemoryChain-v0",
        "network.core": "lstm",
        "network.core_size": 64,
        "learning.unroll_length": 16,
        "run.target_return": 0.9,
    },
}

# Mnih et al. 2016 (arXiv 1602.01783), section 5.1 and its supplement, section 8: an update for every five steps of one
# actor, gradients never clipped. The paper draws the learning rate; 7e-4 is what others settled on for A3C.
_ASYNCHRONOUS: Values = {
    "learning.unroll_length": 5,
    "learning.batch_size": 1,
    "optimiser.optimiser": "rmsprop_tf",
    "optimiser.learning_rate": 7e-4,
    "optimiser.clip_norm": float("inf"),
}
_ASYNCHRONOUS_Q: Values = {
    **_ASYNCHRONOUS,
    "optimiser.epsilon": 0.004,  # the paper's 0.1 belongs to a sum over five steps, this to their mean
    "q_learning.target_period_updates": 2000,  # 40,000 frames
    "fleet.num_greedy_envs": 1,
}

PUBLISHED: Mapping[str, Values] = {
    # R2D2, table 2, but for the replay: 100,000 sequences of 84x84 frames are 85 GB. Clipping as in SEED RL.
    "r2d2": {
        "learning.unroll_length": 80,
        "learning.batch_size": 64,
        "learning.discount": 0.997,
        "learning.reward_clipping": "none",
        "network.torso": "nature",
        "network.core": "lstm",
        "network.core_size": 512,
        "optimiser.learning_rate": 1e-4,
        "optimiser.final_learning_rate_share": 1.0,
        "optimiser.epsilon": 1e-3,
        "fleet.num_greedy_envs": 1,
    },
    # Ape-X, section 4.1, in runs of 4 transitions; the optimiser is the paper's centred RMSProp.
    "apex": {
        "learning.unroll_length": 4,
        "learning.batch_size": 128,
        "network.torso": "nature",
        "q_learning.n_step": 3,
        "q_learning.rescale_values": False,
        "replay.replay_capacity": 50_000,
        "replay.replay_min_size": 12_500,
        "replay.priority_exponent": 0.6,
        "replay.importance_exponent": 0.4,
        "optimiser.optimiser": "rmsprop",
        "optimiser.centred": True,
        "optimiser.decay": 0.95,
        "optimiser.learning_rate": 6.25e-5,
        "optimiser.final_learning_rate_share": 1.0,
        "optimiser.epsilon": 1.5e-7,
        "fleet.num_greedy_envs": 1,
    },
    "a3c": {**_ASYNCHRONOUS, "optimiser.epsilon": 0.1, "actor_critic.reduction": "sum"},
    "one_step_q": _ASYNCHRONOUS_Q,
    "one_step_sarsa": _ASYNCHRONOUS_Q,
    "n_step_q": _ASYNCHRONOUS_Q,
    # OpenAI Baselines, baselines/a2c/a2c.py, for Atari.
    "a2c": {
        "learning.unroll_length": 5,
        "optimiser.optimiser": "rmsprop_tf",
        "optimiser.learning_rate": 7e-4,
        "optimiser.epsilon": 1e-5,
        "optimiser.clip_norm": 0.5,
    },
    # OpenAI Baselines, baselines/ppo2/defaults.py, for Atari; ppo2 leaves 4 minibatches and 4 epochs there too.
    "ppo": {
        "learning.unroll_length": 128,
        "actor_critic.lambda_": 0.95,
        "ppo.clip_ratio": 0.1,
        "optimiser.learning_rate": 2.5e-4,
        "optimiser.epsilon": 1e-5,
        "optimiser.clip_norm": 0.5,
    },
}
"""Algorithm -> how it was published, where that differs from the defaults."""

_ON_POLICY: Values = {
    "actor_critic.lambda_": 0.95,
    "actor_critic.reduction": "mean",
    "optimiser.optimiser": "adam",
    "optimiser.learning_rate": 2e-3,
    "optimiser.epsilon": 1e-8,
    "optimiser.clip_norm": 0.5,
}
_CARTPOLE: Values = {
    "actor_critic.baseline_cost": 0.05,  # returns of tens would drown the policy gradient in a shared torso
    "actor_critic.entropy_cost": 0.001,
}
_SMALL_Q: Values = {
    "learning.unroll_length": 5,
    "learning.batch_size": 8,
    "optimiser.optimiser": "adam",
    "optimiser.learning_rate": 1e-3,
    "optimiser.epsilon": 1e-8,
    "q_learning.target_period_updates": 50,
    "asynchronous_q.exploration_steps": 50_000,
    "fleet.num_greedy_envs": 8,
}
_SMALL_PPO: Values = {"learning.unroll_length": 32, "optimiser.learning_rate": 1e-3, "ppo.clip_ratio": 0.2}

TUNED: Mapping[tuple[str, str], Values] = {
    # On few cores small train batches and low-variance advantages count.
    ("pong", "vtrace"): {
        "learning.batch_size": 8,
        "actor_critic.lambda_": 0.95,
        "vtrace.advantage": "rlax",
        "actor_critic.baseline_cost": 0.25,
        "actor_critic.entropy_cost": 0.0007,
        "optimiser.learning_rate": 8e-4,
        "optimiser.epsilon": 1e-5,
        "optimiser.clip_norm": 0.5,
    },
    ("cartpole", "vtrace"): {
        "learning.batch_size": 8,
        "actor_critic.lambda_": 0.95,
        "vtrace.advantage": "rlax",
        **_CARTPOLE,
        "optimiser.learning_rate": 2e-3,
    },
    ("cartpole", "a2c"): {**_ON_POLICY, **_CARTPOLE, "learning.unroll_length": 5},
    ("cartpole", "a3c"): {**_ON_POLICY, **_CARTPOLE, "learning.unroll_length": 5, "learning.batch_size": 32},
    ("cartpole", "ppo"): {**_ON_POLICY, **_CARTPOLE, **_SMALL_PPO},
    ("catch", "vtrace"): {
        "learning.batch_size": 16,
        "actor_critic.lambda_": 0.95,
        "vtrace.advantage": "rlax",
        "actor_critic.entropy_cost": 0.01,
        "optimiser.learning_rate": 2e-3,
        "optimiser.clip_norm": 0.5,
    },
    # Few environments that explore, many draws of each unroll: the learner is dearer than the steps here.
    ("cartpole", "r2d2"): {
        "fleet.num_envs": 16,
        "fleet.num_greedy_envs": 8,
        "learning.unroll_length": 20,
        "learning.batch_size": 32,
        "r2d2.burn_in": 10,
        "r2d2.period": 20,
        "q_learning.target_period_updates": 100,
        "q_learning.head_size": 64,
        "replay.replay_capacity": 5000,
        "replay.replay_min_size": 50,
        "replay.samples_per_insert": 16.0,
        "network.core_size": 64,
        "optimiser.learning_rate": 2e-3,
    },
    ("cartpole", "apex"): {
        "fleet.num_envs": 16,
        "fleet.num_greedy_envs": 8,
        "learning.batch_size": 64,
        "learning.discount": 0.99,
        "q_learning.target_period_updates": 500,
        "q_learning.head_size": 64,
        "replay.replay_capacity": 20_000,
        "replay.replay_min_size": 1000,
        "replay.samples_per_insert": 8.0,
        "optimiser.optimiser": "adam",
        "optimiser.centred": False,
        "optimiser.learning_rate": 1e-3,
        "optimiser.epsilon": 1e-8,
        "optimiser.clip_norm": 10.0,
    },
    ("memory", "r2d2"): {
        "fleet.num_envs": 16,
        "fleet.num_greedy_envs": 4,
        "learning.batch_size": 32,
        "r2d2.burn_in": 8,
        "r2d2.period": 16,
        "q_learning.target_period_updates": 100,
        "q_learning.head_size": 64,
        "replay.replay_capacity": 5000,
        "replay.replay_min_size": 200,
        "replay.samples_per_insert": 8.0,
        "optimiser.learning_rate": 1e-3,
    },
    # The published networks and batches are for GPUs: an update of R2D2's takes minutes on one core.
    ("pong", "r2d2"): {
        "fleet.num_greedy_envs": 2,
        "learning.unroll_length": 40,
        "learning.batch_size": 16,
        "r2d2.burn_in": 20,
        "r2d2.period": 40,
        "q_learning.target_period_updates": 500,
        "q_learning.head_size": 256,
        "replay.replay_capacity": 4000,
        "replay.replay_min_size": 300,
        "replay.samples_per_insert": 4.0,
        "network.torso": "impala_shallow",
        "network.core_size": 256,
        "optimiser.learning_rate": 3e-4,
    },
    ("pong", "apex"): {
        "fleet.num_greedy_envs": 2,
        "learning.batch_size": 64,
        "q_learning.target_period_updates": 1000,
        "q_learning.head_size": 256,
        "replay.replay_capacity": 40_000,
        "replay.replay_min_size": 3000,
        "replay.samples_per_insert": 4.0,
        "network.torso": "impala_shallow",
        "optimiser.learning_rate": 2.5e-4,
    },
    # The control: without a memory it cannot learn this.
    ("memory", "apex"): {
        "fleet.num_envs": 16,
        "fleet.num_greedy_envs": 4,
        "learning.unroll_length": 4,
        "learning.batch_size": 64,
        "q_learning.target_period_updates": 100,
        "q_learning.head_size": 64,
        "replay.replay_capacity": 20_000,
        "replay.replay_min_size": 1000,
        "replay.samples_per_insert": 8.0,
        "network.core": "none",
        "optimiser.optimiser": "adam",
        "optimiser.centred": False,
        "optimiser.learning_rate": 1e-3,
        "optimiser.epsilon": 1e-8,
    },
    ("memory", "vtrace"): {
        "learning.batch_size": 16,
        "actor_critic.lambda_": 0.95,
        "vtrace.advantage": "rlax",
        "actor_critic.entropy_cost": 0.01,
        "optimiser.learning_rate": 2e-3,
        "optimiser.clip_norm": 0.5,
    },
    **{
        (task, name): _SMALL_Q
        for task in ("cartpole", "catch")
        for name in ("one_step_q", "one_step_sarsa", "n_step_q")
    },
    ("memory", "n_step_q"): {**_SMALL_Q, "learning.unroll_length": 16},
    ("catch", "a2c"): _ON_POLICY,
    ("catch", "a3c"): {**_ON_POLICY, "learning.batch_size": 16},
    ("catch", "ppo"): {**_ON_POLICY, **_SMALL_PPO},
    ("memory", "a2c"): _ON_POLICY,
    ("memory", "a3c"): {**_ON_POLICY, "learning.batch_size": 16},
    ("memory", "ppo"): {**_ON_POLICY, **_SMALL_PPO},
}


def preset_values(preset: str | None, algorithm: str) -> Values:
    """All that a preset (None for none) and an algorithm change.

    Raises:
        UsageError: there is no such preset.
    """
    published = PUBLISHED.get(algorithm, {})
    if preset is None:
        return published
    if preset not in PRESETS:
        raise UsageError(f"expected --preset to be one of {', '.join(PRESETS)}, got {preset!r}")
    return {**published, **PRESETS[preset], **TUNED.get((preset, algorithm), {})}
