"""Ape-X DQN: prioritised replay of transitions (Horgan et al. 2018, arXiv 1803.00933).

What is drawn is a short run of T transitions with n - 1 more behind it, so that all T have their full n-step return.
Runs follow one another without overlap of what is trained on. T = 1 is the paper's transition, at the price of storing
n + K frames for each: a run of T stores (T + n + K - 1) / T frames per transition, and its priority is that of its
errors together (`--priority-eta`).

No agent state is refreshed: with a recurrent network take R2D2.
"""

from __future__ import annotations

from seedbed.common.errors import UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.replayed_q import ReplayedQ
from seedbed.server.options.config import ServerConfig


class ApeX(ReplayedQ):
    """The algorithm behind `--algorithm apex`.

    Raises:
        UsageError: the network is recurrent.
    """

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        if config.network.core != "none":
            raise UsageError(f"expected --core none with --algorithm apex, got {config.network.core}: take r2d2")
        lookahead = config.q_learning.n_step - 1
        super().__init__(config, spec, burn_in=0, lookahead=lookahead, period=config.learning.unroll_length)
