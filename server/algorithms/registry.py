"""Algorithms by name. A file is imported when its algorithm is asked for: they bring torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from seedbed.common.errors import SpecError, UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.interface import Algorithm

ALGORITHMS: Mapping[str, str] = {
    "vtrace": "vtrace:VTrace",
    "a2c": "actor_critic:A2C",
    "a3c": "actor_critic:A3C",
    "ppo": "ppo:PPO",
    "r2d2": "replayed_q:R2D2",
    "apex": "replayed_q:ApeX",
    "one_step_q": "q_learning:OneStepQ",
    "one_step_sarsa": "q_learning:OneStepSarsa",
    "n_step_q": "q_learning:NStepQ",
}
"""Name -> module of this folder, and class in it."""


def find_algorithm(name: str) -> type[Algorithm]:
    """The class of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in ALGORITHMS:
        raise UsageError(f"expected --algorithm to be one of {', '.join(ALGORITHMS)}, got {name!r}")
    module, _, attribute = ALGORITHMS[name].partition(":")
    algorithm: type[Algorithm] = getattr(import_module(f"seedbed.server.algorithms.{module}"), attribute)
    return algorithm


def choose_algorithm(spec: EnvironmentSpec) -> str:
    """The name of the one that suits an environment best; of equals the first.

    Raises:
        SpecError: none can learn it.
    """
    ranks = {name: rank for name in ALGORITHMS if (rank := find_algorithm(name).suits(spec)) is not None}
    if not ranks:
        actions = ", ".join(f"{action.name!r} {action}" for action in spec.actions)
        raise SpecError(f"{spec.environment}: expected actions that an algorithm can learn, got {actions}")
    return max(ranks, key=ranks.__getitem__)
