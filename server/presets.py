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

PUBLISHED: Mapping[str, Values] = {}
"""Algorithm -> how it was published, where that differs from the defaults."""

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
        "actor_critic.baseline_cost": 0.05,  # returns of tens would drown the policy gradient in a shared torso
        "actor_critic.entropy_cost": 0.001,
        "optimiser.learning_rate": 2e-3,
    },
    ("catch", "vtrace"): {
        "learning.batch_size": 16,
        "actor_critic.lambda_": 0.95,
        "vtrace.advantage": "rlax",
        "actor_critic.entropy_cost": 0.01,
        "optimiser.learning_rate": 2e-3,
        "optimiser.clip_norm": 0.5,
    },
    ("memory", "vtrace"): {
        "learning.batch_size": 16,
        "actor_critic.lambda_": 0.95,
        "vtrace.advantage": "rlax",
        "actor_critic.entropy_cost": 0.01,
        "optimiser.learning_rate": 2e-3,
        "optimiser.clip_norm": 0.5,
    },
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
