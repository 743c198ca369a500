"""Options that all actor-critics have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.server.networks.gaussians import Deviation
from seedbed.server.options.risk import RiskConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorCriticOptions:
    """actor-critic"""

    lambda_: float = option(
        1.0, "lambda: factor of the clipped trace coefficients c of V-trace; in the others, GAE's", flag="--lambda"
    )
    baseline_cost: float = option(0.5, "weight of half the squared value error", minimum=0)
    popart: Literal["auto", "on", "off"] = option(
        "auto",
        "PopArt: divide errors of values and advantages by the running spread of value targets; auto is what the "
        "environment asks for",
        fixed=True,
    )
    popart_rate: float = option(3e-4, "PopArt: share of an update in the running moments of value targets")
    keep_shares: bool = option(
        False,
        "several tasks: weigh the loss of their transitions so that each task has its share of it, however slow its "
        "environments are",
        fixed=True,
    )
    entropy_cost: float = option(0.01, "weight of the entropy bonus, the mean over discrete components of an action")
    continuous_entropy_cost: float = option(
        0.0, "weight of the entropy bonus of continuous actions, the mean over their components"
    )
    squash: bool = option(
        False, "continuous actions: bring samples into the bounds by tanh instead of clipping them", fixed=True
    )
    deviation: Deviation = option(
        "free",
        "continuous actions, standard deviations: free (weights that no observation moves), each (of each component, "
        "softplus of the network's output, as in SEED RL) or shared (one for all components, as in A3C's paper)",
        fixed=True,
    )
    separate_value_torso: bool = option(
        False,
        "torso and memory of its own for the value, so that the policy's features are the policy's alone "
        "(default: where no image is shown)",
        fixed=True,
    )
    reduction: Literal["mean", "sum"] = option(
        "mean",
        "reduction over valid steps; sum as in IMPALA's paper wants its optimiser: --optimiser rmsprop --epsilon 0.01 "
        "--clip-norm 40 --learning-rate 6e-4",
    )
    risk: RiskConfig = field(default_factory=RiskConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.lambda_ <= 1:
            raise UsageError(f"expected --lambda between 0 and 1, got {self.lambda_}")
        if not 0 < self.popart_rate <= 1:
            raise UsageError(f"expected --popart-rate in (0, 1], got {self.popart_rate}")
