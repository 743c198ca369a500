"""A network beside the accumulators of its statistics: what is learnt by algorithms that learn a single network.

What acts is the network alone. Copies of it have the statistics as they were published, in float32; the accumulators
stay with the learner, and go into checkpoints with the weights.
"""

from __future__ import annotations

from torch import nn

from seedbed.server.networks.interface import PolicyNetwork
from seedbed.server.networks.moments import ObservationMoments
from seedbed.server.networks.risk import RiskBound
from seedbed.server.networks.task_shares import TaskShares
from seedbed.server.networks.value_head import ValueMoments


class Learnt(nn.Module):
    """See above.

    Attributes:
        network: what acts.
        observations: moments of what is shown; None: nothing is normalised.
        values: moments of value targets; None: values are not scaled.
        risk: the bound on the variance of rewards; None: there is none.
        shares: of several tasks in what is learnt from; None: they are as they come.
    """

    def __init__(
        self,
        network: PolicyNetwork,
        observations: ObservationMoments | None = None,
        values: ValueMoments | None = None,
        risk: RiskBound | None = None,
        shares: TaskShares | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.observations = observations
        self.values = values
        self.risk = risk
        self.shares = shares
