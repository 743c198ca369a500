"""A bound on the variance of rewards, in what an actor-critic learns: `networks.risk` has it."""

from __future__ import annotations

from torch import nn

from seedbed.server.networks.learnt import Learnt
from seedbed.server.networks.risk import RiskBound

REWARDS = "rewards"
"""Name of the sums over raw rewards among the moments of an update."""


def risk_bound(learnt: nn.Module) -> RiskBound | None:
    """Of what is learnt; None: rewards may vary as they like."""
    return learnt.risk if isinstance(learnt, Learnt) else None
