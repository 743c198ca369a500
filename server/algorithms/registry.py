"""`--algorithm NAME` -> the class behind it."""

from __future__ import annotations

from collections.abc import Callable

from seedbed.common.errors import UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.a2c import A2C
from seedbed.server.algorithms.a3c import A3C
from seedbed.server.algorithms.apex import ApeX
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.n_step_q import NStepQ
from seedbed.server.algorithms.one_step_q import OneStepQ
from seedbed.server.algorithms.one_step_sarsa import OneStepSarsa
from seedbed.server.algorithms.ppo import PPO
from seedbed.server.algorithms.r2d2 import R2D2
from seedbed.server.algorithms.vtrace import VTrace
from seedbed.server.experience.regimes import REGIMES
from seedbed.server.options.config import ServerConfig

ALGORITHMS: dict[str, Callable[[ServerConfig, EnvironmentSpec], Algorithm]] = {
    "vtrace": lambda config, spec: VTrace(config.vtrace, config.actor_critic, config.learning, config.network, spec),
    "a2c": lambda config, spec: A2C(config.actor_critic, config.learning, config.network, spec),
    "a3c": lambda config, spec: A3C(config.actor_critic, config.learning, config.network, spec),
    "ppo": lambda config, spec: PPO(config.ppo, config.actor_critic, config.learning, config.network, spec),
    "r2d2": R2D2,
    "apex": ApeX,
    "one_step_q": OneStepQ,
    "one_step_sarsa": OneStepSarsa,
    "n_step_q": NStepQ,
}


def make_algorithm(config: ServerConfig, spec: EnvironmentSpec) -> Algorithm:
    """Builds the algorithm that the configuration names.

    Raises:
        SpecError: it cannot learn this environment.
        UsageError: it does not go with another option.
    """
    algorithm = ALGORITHMS[config.algorithm](config, spec)
    if REGIMES[algorithm.regime].on_policy and config.learning.publish_every != 1:
        raise UsageError(
            f"expected --publish-every 1 with --algorithm {config.algorithm}, which learns only from what its newest "
            f"parameters did, got {config.learning.publish_every}"
        )
    return algorithm
