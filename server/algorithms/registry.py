"""Algorithms by name. A file is imported when its algorithm is asked for: they bring torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from seedbed.common.errors import SpecError, UsageError
from seedbed.common.plugins import NOTHING_TYPED, Trust, find
from seedbed.common.specs import EnvironmentSpec

if TYPE_CHECKING:
    from seedbed.server.algorithms.interface import Algorithm

ALGORITHMS: Mapping[str, str] = {
    "vtrace": "seedbed.server.algorithms.vtrace:VTrace",
    "a2c": "seedbed.server.algorithms.a3c:A2C",
    "a3c": "seedbed.server.algorithms.a3c:A3C",
    "ppo": "seedbed.server.algorithms.ppo:PPO",
    "ald": "seedbed.server.algorithms.ald:ALD",
    "r2d2": "seedbed.server.algorithms.replayed_q:R2D2",
    "apex": "seedbed.server.algorithms.replayed_q:ApeX",
    "sac": "seedbed.server.algorithms.sac:SAC",
    "td3": "seedbed.server.algorithms.td3:TD3",
    "one_step_q": "seedbed.server.algorithms.q_learning:OneStepQ",
    "one_step_sarsa": "seedbed.server.algorithms.q_learning:OneStepSarsa",
    "pqn": "seedbed.server.algorithms.pqn:PQN",
    "n_step_q": "seedbed.server.algorithms.q_learning:NStepQ",
}
"""Name -> MODULE:CLASS."""

SUMMARIES: Mapping[str, str] = {
    "vtrace": "actor-critic that corrects for policy lag (IMPALA); any actions",
    "ald": "a transformer learns by V-trace, an LSTM distilled from it acts; any actions",
    "a2c": "actor-critic in rounds, no lag; any actions",
    "a3c": "actor-critic that takes every action for its own; any actions",
    "ppo": "actor-critic in rounds, several passes, clipped; any actions",
    "r2d2": "Q-learning from a replay, with memory; one discrete action",
    "apex": "Q-learning from a replay; one discrete action",
    "sac": "actor and critics from a replay, with entropy; boxes, or discrete actions",
    "td3": "deterministic actor and critics from a replay; boxes",
    "one_step_q": "Q-learning of single steps, no replay; one discrete action",
    "one_step_sarsa": "Sarsa of single steps, no replay; one discrete action",
    "pqn": "Q-learning in rounds, no replay, no target; one discrete action",
    "n_step_q": "Q-learning of n steps, no replay; one discrete action",
}
"""Name -> what it is and which actions it takes, in a few words."""

_INTERFACE = "seedbed.server.algorithms.interface.Algorithm"


def find_algorithm(name: str, trust: Trust = NOTHING_TYPED) -> type[Algorithm]:
    """The class of that name: built in, of an installed distribution, or MODULE:CLASS.

    Raises:
        UsageError: there is none, or it may not be imported.
    """
    from seedbed.server.algorithms.interface import Algorithm  # brings torch

    found = find("algorithms", name, ALGORITHMS, trust)
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise UsageError(f"--algorithm {name}: expected a subclass of {_INTERFACE}, got {found!r:.100}")
    if not dataclasses.is_dataclass(getattr(found, "Options", None)):
        raise UsageError(f"--algorithm {name}: expected a class with a frozen dataclass `Options`, there is none")
    return found


def suiting(spec: EnvironmentSpec) -> Mapping[str, int]:
    """The built-in algorithms that can learn an environment, with their ranks."""
    return {name: rank for name in ALGORITHMS if (rank := find_algorithm(name).suits(spec)) is not None}


def choose_algorithm(spec: EnvironmentSpec) -> str:
    """The name of the built-in one that suits an environment best; of equals the first.

    Raises:
        SpecError: none can learn it.
    """
    ranks = suiting(spec)
    if not ranks:
        actions = ", ".join(f"{action.name!r} {action}" for action in spec.actions)
        raise SpecError(
            f"{spec.environment}: no built-in algorithm can learn actions {actions}; one of your own is taken by name, "
            "--algorithm MODULE:CLASS"
        )
    return max(ranks, key=ranks.__getitem__)
