"""Named settings that work. A preset changes defaults; explicit options win over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.common.errors import UsageError

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The main job: ALE Pong from pixels. On few cores small train batches and low-variance advantages count.
    "pong": {
        "environment.env": "ALE/Pong-v5",
        "environment.atari_preset": "paper",
        "fleet.num_envs": 64,
        "serving.wait_when_idle": True,  # two messages a batch: +6 % on two cores
        "serving.max_wait_ms": 3.0,
        "network.background": 87.0,  # the colour of the field; without it most filters die in the first minute
        "vtrace.batch_size": 8,
        "vtrace.lambda_": 0.95,
        "vtrace.advantage": "rlax",
        "vtrace.baseline_cost": 0.25,
        "vtrace.entropy_cost": 0.0007,
        "optimiser.learning_rate": 8e-4,
        "optimiser.epsilon": 1e-5,
        "optimiser.clip_norm": 0.5,
        "run.target_return": 18.0,
        "run.max_steps": 6_000_000,
    },
    # Gymnasium's CartPole-v1 to a mean return of 475 of 500.
    "cartpole": {
        "environment.env": "CartPole-v1",
        "network.torso": "mlp",
        "network.frame_stack": 1,
        "network.precision": "float32",
        "vtrace.batch_size": 8,
        "vtrace.discount": 0.98,
        "vtrace.lambda_": 0.95,
        "vtrace.advantage": "rlax",
        "vtrace.reward_clipping": "none",
        "vtrace.baseline_cost": 0.05,  # returns of tens would otherwise drown the policy gradient in a shared torso
        "vtrace.entropy_cost": 0.001,
        "optimiser.learning_rate": 2e-3,
        "fleet.num_envs": 32,
        "run.target_return": 475.0,
        "run.max_steps": 1_000_000,
        "run.log_interval_s": 2.0,
    },
    # Catch (bsuite): ten rows, five columns, one ball.
    "catch": {
        "environment.env": "seedbed/Catch-v0",
        "network.torso": "mlp",
        "network.frame_stack": 1,
        "network.precision": "float32",
        "vtrace.unroll_length": 10,
        "vtrace.batch_size": 16,
        "vtrace.lambda_": 0.95,
        "vtrace.advantage": "rlax",
        "vtrace.entropy_cost": 0.01,
        "optimiser.learning_rate": 2e-3,
        "optimiser.clip_norm": 0.5,
        "fleet.num_envs": 32,
        "run.target_return": 0.95,
        "run.max_steps": 1_000_000,
        "run.log_interval_s": 2.0,
    },
    # A memory chain (bsuite) of length 7: only a recurrent policy can do better than 0.
    "memory": {
        "environment.env": "seedbed/MemoryChain-v0",
        "network.torso": "mlp",
        "network.frame_stack": 1,
        "network.precision": "float32",
        "network.core": "lstm",
        "network.core_size": 64,
        "vtrace.unroll_length": 16,
        "vtrace.batch_size": 16,
        "vtrace.lambda_": 0.95,
        "vtrace.advantage": "rlax",
        "vtrace.entropy_cost": 0.01,
        "optimiser.learning_rate": 2e-3,
        "optimiser.clip_norm": 0.5,
        "fleet.num_envs": 32,
        "run.target_return": 0.9,
        "run.max_steps": 1_000_000,
        "run.log_interval_s": 2.0,
    },
}


def preset_values(name: str) -> Mapping[str, Any]:
    """Dotted option -> value.

    Raises:
        UsageError: there is no such preset.
    """
    if name not in PRESETS:
        raise UsageError(f"expected --preset to be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
