"""Named settings that work. They change defaults; explicit options win over them.

What belongs to a task (`PRESETS`) holds for every algorithm. What an algorithm was published with (`PUBLISHED`) lies
beneath it, what was found to work for one algorithm on one task (`TUNED`) above.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.common.errors import UsageError
from seedbed.server.presets.tuned import TUNED

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
        "fleet.num_envs": 64,  # twice as many make a third more steps a second, but did not learn as well
        "serving.wait_when_idle": True,  # two messages a batch
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
