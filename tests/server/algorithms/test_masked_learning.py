"""Q-learning where an action is forbidden: it learns, and the forbidden action is never taken, nor heard of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seedbed.server.algorithms.registry import find_algorithm
from seedbed.server.learning.learner import Learner
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import LearningConfig, OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.options.run import RunConfig
from tests.reference import masked_catch
from tests.reference.acting import CPU

FAST: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "pqn": ({"epochs": 4, "minibatches": 4, "exploration_share": 0.5, "final_epsilon": 0.05}, {"rounds": 40}),
    "n_step_q": ({"exploration_steps": 8000, "target_period_updates": 50}, {"rounds": 80, "draws": 10}),
    "apex": ({"target_period_updates": 50, "head_size": 32}, {"rounds": 30, "draws": 15}),
}


@pytest.mark.parametrize(
    "name", ["pqn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("n_step_q", "apex"))]
)
def test_a_masked_environment_is_learnt_without_one_illegal_move(name: str) -> None:
    options, effort = FAST[name]
    make = find_algorithm(name)
    config = ServerConfig(
        algorithm=name,
        algorithm_options=make.Options(**options),
        learning=LearningConfig(unroll_length=20, discount=0.97),
        network=NetworkConfig(torso="mlp", frame_stack=1, precision="float32", normalise_layers=name == "pqn"),
        run=RunConfig(max_steps=16_000),
    )
    torch.manual_seed(0)
    algorithm = make(config, masked_catch.SPEC)
    learner = Learner(algorithm, OptimiserConfig(learning_rate=2e-3, final_learning_rate_share=1.0), CPU)
    world = masked_catch.MaskedCatch(20, seed=0)
    masked_catch.train(algorithm, learner, world, **effort)
    world.returns.clear()
    for turn in range(10):
        masked_catch.play(algorithm, learner, world, agent_steps=10**6 + turn, greedy=True)
    assert world.illegal == 0, "in learning and greedily"
    assert len(world.returns) > 300
    assert np.mean(world.returns) > 0.9
