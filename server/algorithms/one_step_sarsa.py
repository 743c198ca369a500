"""Asynchronous one-step Sarsa (arXiv 1602.01783, section 4): r + gamma Q(s', a'; target), a' the action taken next."""

from __future__ import annotations

from torch import Tensor

from seedbed.server.algorithms.asynchronous_q import AsynchronousQ
from seedbed.server.losses.q_learning import values_of


class OneStepSarsa(AsynchronousQ):
    """The algorithm behind `--algorithm one_step_sarsa`."""

    lambda_ = 0.0

    def row_values(self, q_values: Tensor, action: Tensor) -> Tensor:
        """The chosen action's, explored or not. At a time limit: of the action that the last observation was given."""
        return values_of(q_values, action)
