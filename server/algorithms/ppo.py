"""Proximal policy optimisation with the clipped objective (Schulman et al. 2017, arXiv 1707.06347).

Advantages (GAE) and value targets are computed once, with the parameters that acted; then several epochs of optimiser
steps are made on minibatches of whole unrolls, which keeps recurrent networks possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.actor_critic import (
    ActorCriticAlgorithm,
    ActorCriticOptions,
    Seen,
    Targets,
    has_boxes,
    return_targets,
)
from seedbed.server.algorithms.interface import EVERYTHING, Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.ppo import clipped_surrogate_loss, normalise
from seedbed.server.networks.interface import PolicyNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOOptions(ActorCriticOptions):
    """PPO"""

    lambda_: float = option(0.95, "lambda of GAE", flag="--lambda")
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
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """The usual choice of the family for boxes: where deviations are small, even a little lag is far off policy."""
        return 10 if has_boxes(spec) else 0

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """OpenAI Baselines, baselines/ppo2/defaults.py, for Atari; ppo2 leaves 4 minibatches and 4 epochs there too."""
        return {
            **super().defaults(spec),
            "learning.unroll_length": 128,
            "optimiser.learning_rate": 2.5e-4,
            "optimiser.epsilon": 1e-5,
            "optimiser.clip_norm": 0.5,
        }

    def plan(self, version: int) -> Sequence[str]:
        """Every minibatch of every epoch."""
        return (EVERYTHING,) * (self._options.epochs * self._options.minibatches)

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """All unrolls in random order, as many times as there are epochs, with their targets beside them."""
        network = self.acting(learnt)
        for part in self.minibatches(network, batch):
            yield self.step(network, part) if part is not None else _NO_ROWS

    def minibatches(self, network: PolicyNetwork, batch: TrainBatch) -> Iterator[TrainBatch | None]:
        """What each step learns from; None where there are fewer unrolls than minibatches."""
        with torch.no_grad():
            values, advantages = return_targets(self.see(network, batch), self._options.lambda_)
        batch = replace(batch, fields={**batch.fields, "value_target": values, "advantage": advantages})
        for _ in range(self._options.epochs):
            for unrolls in torch.randperm(len(batch.provenance)).tensor_split(self._options.minibatches):
                yield batch.select(unrolls) if len(unrolls) else None

    def targets(self, seen: Seen, batch: TrainBatch) -> Targets:
        """Those of the parameters that acted; advantages normalised within the minibatch."""
        return Targets(batch.fields["value_target"], normalise(batch.fields["advantage"], seen.valid))

    def policy_loss(self, seen: Seen, advantages: Tensor) -> Tensor:
        """The clipped surrogate."""
        return clipped_surrogate_loss(
            log_ratios=seen.log_ratios,
            advantages=advantages,
            valid=seen.valid,
            clip_ratio=self._options.clip_ratio,
            reduction=self._options.reduction,
        )


_NO_ROWS = Step(loss=None, group=EVERYTHING, weight=torch.zeros(()), metrics={})
