"""Asynchronous n-step Q-learning (arXiv 1602.01783, algorithm S2): each step gets the longest return of its unroll."""

from __future__ import annotations

from seedbed.server.algorithms.one_step_q import OneStepQ


class NStepQ(OneStepQ):
    """The algorithm behind `--algorithm n_step_q`."""

    lambda_ = 1.0
