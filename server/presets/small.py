"""Settings that small tasks share: vectors, cheap environments, machines of a few cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SMALL: Mapping[str, Any] = {
    "network.torso": "mlp",
    "network.frame_stack": 1,
    "network.precision": "float32",
    "network.normalise_observations": "off",
    "learning.reward_clipping": "abs_one",
    "learning.batch_size": 32,
    "fleet.num_envs": 32,
    "run.max_steps": 1_000_000,
    "run.log_interval_s": 2.0,
}
"""Of every small task."""

ONE_TORSO: Mapping[str, Any] = {"algorithm_options.separate_value_torso": False}
"""Actor-critics whose settings were found with one torso for policy and value."""

ON_POLICY: Mapping[str, Any] = {
    **ONE_TORSO,
    "algorithm_options.lambda_": 0.95,
    "algorithm_options.popart": "off",
    "algorithm_options.reduction": "mean",
    "optimiser.optimiser": "adam",
    "optimiser.learning_rate": 2e-3,
    "optimiser.epsilon": 1e-8,
    "optimiser.clip_norm": 0.5,
}
"""Actor-critics that do not correct for policy lag."""

SMALL_PPO: Mapping[str, Any] = {
    "learning.unroll_length": 32,
    "optimiser.learning_rate": 1e-3,
    "algorithm_options.clip_ratio": 0.2,
}
"""PPO, over `ON_POLICY`."""

SMALL_PQN: Mapping[str, Any] = {
    "fleet.num_envs": 32,
    "fleet.num_greedy_envs": 12,
    "learning.unroll_length": 32,
    "learning.discount": 0.99,
    "algorithm_options.lambda_": 0.95,
    "algorithm_options.epochs": 4,
    "algorithm_options.minibatches": 5,
    "algorithm_options.exploration_share": 0.1,
    "algorithm_options.final_epsilon": 0.1,
    "optimiser.learning_rate": 1e-3,
    "optimiser.final_learning_rate_share": 0.0,
    "run.max_steps": 500_000,
}
"""PQN: four unrolls in a minibatch. The environments that learn go on exploring, so a third of all show the score."""

SMALL_Q: Mapping[str, Any] = {
    "fleet.num_envs": 32,
    "fleet.num_greedy_envs": 12,
    "learning.unroll_length": 5,
    "learning.batch_size": 4,
    "learning.discount": 0.99,
    "optimiser.optimiser": "adam",
    "optimiser.learning_rate": 1e-3,
    "optimiser.epsilon": 1e-8,
    "optimiser.clip_norm": 10.0,
    "algorithm_options.target_period_updates": 50,
    "algorithm_options.exploration_steps": 50_000,
    "run.max_steps": 500_000,
}
"""Q-learning without a replay: an update for every 20 transitions, since each is trained on once. The learning rate
falls to 0 within the run, so that what was learnt stays; a third of the environments show the score."""
