"""Proximal policy optimisation with the clipped objective (Schulman et al. 2017, arXiv 1707.06347).

Advantages (GAE) and value targets are computed once, with the parameters that acted; then several epochs of optimiser
steps are made on minibatches of whole unrolls, which keeps recurrent networks possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.actor_critic import (
    ActorCriticAlgorithm,
    ActorCriticOptions,
    Learnt,
    Targets,
    return_targets,
)
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.ppo import clipped_surrogate_loss, normalise
from seedbed.server.networks.interface import PolicyNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOOptions(ActorCriticOptions):
    """PPO"""

    lambda_: float = option(0.95, "of GAE", flag="--lambda")
    clip_ratio: float = option(0.1, "epsilon: how far the ratio of policies may go from 1")
    epochs: int = option(4, "times that each train batch is gone through", minimum=1)
    minibatches: int = option(4, "optimiser steps in an epoch, each on as many of the unrolls", minimum=1)

    def __post_init__(self) -> None:
        if not self.clip_ratio > 0:
            raise UsageError(f"expected --clip-ratio of more than 0, got {self.clip_ratio}")


class PPO(ActorCriticAlgorithm):
    """The algorithm behind `--algorithm ppo`."""

    Options = PPOOptions
    regime = "rounds"

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """OpenAI Baselines, baselines/ppo2/defaults.py, for Atari; ppo2 leaves 4 minibatches and 4 epochs there too."""
        return {
            "learning.unroll_length": 128,
            "optimiser.learning_rate": 2.5e-4,
            "optimiser.epsilon": 1e-5,
            "optimiser.clip_norm": 0.5,
        }

    def minibatches(self, network: PolicyNetwork, batch: TrainBatch) -> Iterator[TrainBatch]:
        """All unrolls in random order, as many times as there are epochs, with their targets beside them."""
        with torch.no_grad():
            learnt = self.evaluate(network, batch)
        values, advantages = return_targets(learnt, self._options.lambda_)
        batch = replace(batch, fields={**batch.fields, "value_target": values, "advantage": advantages})
        num_unrolls = len(batch.provenance)
        for _ in range(self._options.epochs):
            for unrolls in torch.randperm(num_unrolls).chunk(min(self._options.minibatches, num_unrolls)):
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
            clip_ratio=self._options.clip_ratio,
            reduction=self._options.reduction,
        )
