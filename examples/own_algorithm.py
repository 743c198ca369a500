"""An algorithm of one's own: V-trace that also keeps close to the policy which acted.

    cd examples
    seedbed train --env own_environment:Corridor --algorithm own_algorithm:Close --kl-cost 0.2

Its option is shown by `seedbed train --algorithm own_algorithm:Close --help`, stands in config.json and may be changed
when a run goes on. docs/adding-an-algorithm.md begins from nothing instead of from V-trace.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seedbed.common.options import option
from seedbed.server.algorithms.actor_critic import Seen
from seedbed.server.algorithms.vtrace import VTrace, VTraceOptions
from seedbed.server.losses.masking import masked_reduce


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseOptions(VTraceOptions):
    """V-trace with a penalty"""

    kl_cost: float = option(0.1, "weight of the KL divergence from the policy that acted to the one being learnt")


class Close(VTrace):
    """V-trace, whose loss has one term more."""

    Options = CloseOptions

    def policy_loss(self, seen: Seen, advantages: Tensor) -> Tensor:
        """The policy gradient, and KL(behaviour, policy) over valid transitions."""
        distance = masked_reduce(seen.behaviour.kl(seen.policy), seen.valid, self._options.reduction)
        return super().policy_loss(seen, advantages) + self._options.kl_cost * distance
