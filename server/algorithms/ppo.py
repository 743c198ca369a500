"""Proximal policy optimisation with the clipped objective (Schulman et al. 2017, arXiv 1707.06347).

Advantages (GAE) and value targets are computed once, with the parameters that acted; then several epochs of optimiser
steps are made on minibatches of whole unrolls, which keeps recurrent networks possible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.a2c import A2C
from seedbed.server.algorithms.actor_critic import Learnt, Targets
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.ppo import clipped_surrogate_loss, normalise
from seedbed.server.networks.interface import PolicyNetwork
from seedbed.server.options.config import ActorCriticConfig, LearningConfig, NetworkConfig, PPOConfig


class PPO(A2C):
    """The algorithm behind `--algorithm ppo`."""

    def __init__(
        self,
        ppo: PPOConfig,
        config: ActorCriticConfig,
        learning: LearningConfig,
        network: NetworkConfig,
        spec: EnvironmentSpec,
    ) -> None:
        super().__init__(config, learning, network, spec)
        self._ppo = ppo

    def minibatches(self, network: PolicyNetwork, batch: TrainBatch) -> Iterator[TrainBatch]:
        """All unrolls in random order, as many times as there are epochs, with their targets beside them."""
        with torch.no_grad():
            learnt = self.evaluate(network, batch)
        values, advantages = super().targets(learnt, batch)
        batch = replace(batch, fields={**batch.fields, "value_target": values, "advantage": advantages})
        num_unrolls = len(batch.provenance)
        for _ in range(self._ppo.epochs):
            for unrolls in torch.randperm(num_unrolls).chunk(min(self._ppo.minibatches, num_unrolls)):
                yield batch.select(unrolls)

    def targets(self, learnt: Learnt, batch: TrainBatch) -> Targets:
        """Those of the parameters that acted; advantages normalised within the minibatch."""
        return Targets(batch.fields["value_target"], normalise(batch.fields["advantage"], learnt.valid))

    def policy_loss(self, learnt: Learnt, advantages: Tensor) -> Tensor:
        """The clipped surrogate."""
        return clipped_surrogate_loss(
            logits=learnt.logits,
            behaviour_logits=learnt.behaviour_logits,
            actions=learnt.action,
            advantages=advantages,
            valid=learnt.valid,
            clip_ratio=self._ppo.clip_ratio,
            reduction=self._config.reduction,
        )
