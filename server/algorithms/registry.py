"""`--algorithm NAME` -> the class behind it."""

from __future__ import annotations

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.vtrace import VTrace
from seedbed.server.config import ServerConfig


def make_algorithm(config: ServerConfig, spec: EnvironmentSpec) -> Algorithm:
    """Builds the algorithm that the configuration names.

    Raises:
        SpecError: it cannot learn this environment.
    """
    match config.algorithm:
        case "vtrace":
            return VTrace(config.vtrace, config.learning, config.network, spec)
    raise ValueError(f"expected a known algorithm, got {config.algorithm!r}")
