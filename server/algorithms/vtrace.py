"""V-trace actor-critic (IMPALA, arXiv 1802.01561; SEED RL, arXiv 1910.06591).

The recorded policy that acted is compared with that of the parameters being learnt, so any policy lag is corrected for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.actor_critic import (
    ActorCriticAlgorithm,
    has_boxes,
)
from seedbed.server.algorithms.actor_critic_options import ActorCriticOptions
from seedbed.server.algorithms.seen import Seen, Targets
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.vtrace import vtrace


@dataclass(frozen=True, slots=True, kw_only=True)
class VTraceOptions(ActorCriticOptions):
    """V-trace"""

    clip_rho: float = option(
        1.0,
        "rho-bar: bound of importance ratios in the value targets; decides which policy's value is learnt",
        minimum=0,
    )
    clip_c: float = option(1.0, "c-bar: bound of the trace coefficients; trades variance against speed", minimum=0)
    clip_pg_rho: float = option(1.0, "rho-bar of the policy gradient: bound of its importance ratios", minimum=0)
    advantage: Literal["seed", "rlax"] = option(
        "seed", "rlax mixes values by lambda, which makes it GAE on-policy; seed does not"
    )

    def __post_init__(self) -> None:
        ActorCriticOptions.__post_init__(self)
        if self.clip_rho < self.clip_c:
            raise UsageError(f"expected --clip-rho >= --clip-c, got {self.clip_rho} and {self.clip_c}")


class VTrace(ActorCriticAlgorithm):
    """The algorithm behind `--algorithm vtrace`."""

    Options = VTraceOptions

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """The usual choice for discrete actions that pixels ask for: no other is as fast, and none learns less."""
        return 0 if has_boxes(spec) else 5

    def targets(self, seen: Seen, batch: TrainBatch) -> Targets:
        """V-trace (IMPALA, section 4.1)."""
        return Targets(
            *vtrace(
                log_rhos=seen.log_ratios.detach(),
                rewards=seen.rewards,
                discounts=seen.discounts,
                values=seen.values.detach(),
                valid=seen.valid,
                clip_rho=self._options.clip_rho,
                clip_c=self._options.clip_c,
                clip_pg_rho=self._options.clip_pg_rho,
                lambda_=self._options.lambda_,
                advantage=self._options.advantage,
            )
        )
