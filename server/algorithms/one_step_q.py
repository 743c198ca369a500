"""Asynchronous one-step Q-learning (arXiv 1602.01783, algorithm 1): r + gamma max_a Q(s', a; target)."""

from __future__ import annotations

from torch import Tensor

from seedbed.server.algorithms.asynchronous_q import AsynchronousQ


class OneStepQ(AsynchronousQ):
    """The algorithm behind `--algorithm one_step_q`."""

    lambda_ = 0.0

    def row_values(self, q_values: Tensor, action: Tensor) -> Tensor:
        """The best action's."""
        return q_values.amax(-1)
