"""V-trace actor-critic (IMPALA, arXiv 1802.01561; SEED RL, arXiv 1910.06591).

The recorded logits of the policy that acted are compared with those of the parameters being learnt, so any policy lag
is corrected for.
"""

from __future__ import annotations

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.actor_critic import ActorCriticAlgorithm, Learnt, Targets
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.vtrace import vtrace
from seedbed.server.options.config import ActorCriticConfig, LearningConfig, NetworkConfig, VTraceConfig


class VTrace(ActorCriticAlgorithm):
    """The algorithm behind `--algorithm vtrace`."""

    def __init__(
        self,
        vtrace: VTraceConfig,
        config: ActorCriticConfig,
        learning: LearningConfig,
        network: NetworkConfig,
        spec: EnvironmentSpec,
    ) -> None:
        super().__init__(config, learning, network, spec)
        self._vtrace = vtrace

    def targets(self, learnt: Learnt, batch: TrainBatch) -> Targets:
        """V-trace (IMPALA, section 4.1)."""
        return Targets(
            *vtrace(
                log_rhos=learnt.log_rhos,
                rewards=learnt.rewards,
                discounts=learnt.discounts,
                values=learnt.values.detach(),
                valid=learnt.valid,
                clip_rho=self._vtrace.clip_rho,
                clip_c=self._vtrace.clip_c,
                clip_pg_rho=self._vtrace.clip_pg_rho,
                lambda_=self._config.lambda_,
                advantage=self._vtrace.advantage,
            )
        )
