"""PQN: Q-learning in rounds without replay and target network (Gallici et al. 2024, arXiv 2407.04811).

Layer normalisation keeps bootstrapping stable. Targets are Q(lambda) returns, computed once with the parameters that
acted,

    G_t = r_{t+1} + d_{t+1} (lambda G_{t+1} + (1 - lambda) max_a Q(s_{t+1}, a)),    G_T = max_a Q(s_T, a)

whatever was explored on the way (Peng and Williams 1996); then several epochs of optimiser steps are made on
minibatches of whole unrolls. The authors' code (mttga/purejaxql) draws single transitions where the network has no
memory, takes a lost life or time limit for a terminal state, and bootstraps afresh in every minibatch where it has one.
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
from seedbed.server.algorithms.acting import Acting
from seedbed.server.algorithms.batch_reading import batch_inputs, mask_of
from seedbed.server.algorithms.exploration import falling_epsilon
from seedbed.server.algorithms.minibatches import NO_ROWS, minibatches_of, orders_of, plan_of
from seedbed.server.algorithms.published import dqn_torso
from seedbed.server.algorithms.q_learning import QLearning
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.q_learning import only_allowed
from seedbed.server.networks.interface import PolicyNetwork
from seedbed.server.options.config import ServerConfig

_TARGET = "value_target"


@dataclass(frozen=True, slots=True, kw_only=True)
class PQNOptions:
    """PQN"""

    lambda_: float = option(0.65, "lambda of the returns: 0 looks one step ahead, 1 to the end", flag="--lambda")
    epochs: int = option(2, "times that each train batch is gone through", minimum=1)
    minibatches: int = option(32, "optimiser steps in an epoch, each on as many of the unrolls", minimum=1)
    exploration_share: float = option(
        0.1, "share of --max-steps over which epsilon falls from 1 to its final value", minimum=0, maximum=1
    )
    final_epsilon: float = option(0.001, "share of actions at random afterwards", minimum=0)

    def __post_init__(self) -> None:
        for flag, value in (("--lambda", self.lambda_), ("--final-epsilon", self.final_epsilon)):
            if not 0 <= value <= 1:
                raise UsageError(f"expected {flag} between 0 and 1, got {value}")


class PQN(QLearning):
    """The algorithm behind `--algorithm pqn`."""

    Options = PQNOptions
    regime = "rounds"

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """The authors' settings for Atari, purejaxql/config/alg/pqn_atari.yaml.

        128 environments are for images: of vectors the rules' number makes more updates of as many steps.
        """
        images = dqn_torso(spec)
        return {
            **images,
            **({"fleet.num_envs": 128} if images else {}),
            "learning.unroll_length": 32,
            "network.normalise_layers": True,
            "optimiser.optimiser": "radam",
            "optimiser.learning_rate": 2.5e-4,
            "optimiser.final_learning_rate_share": 1.0,
            "optimiser.clip_norm": 10.0,
        }

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """See the base class."""
        super().__init__(config, spec)
        self._exploration_steps = self._options.exploration_share * config.run.max_steps

    def epsilon(self, acting: Acting) -> Tensor:
        """The same for all."""
        indices, steps = acting.environment_indices, acting.agent_steps
        return falling_epsilon(indices, steps, self._exploration_steps, self._options.final_epsilon)

    def plan(self, version: int) -> Sequence[str]:
        """Every minibatch of every epoch."""
        return plan_of(self._options.epochs, self._options.minibatches)

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """All unrolls in random order, as many times as there are epochs, with their targets beside them."""
        network = self.acting(learnt)
        for part in self.minibatches(network, batch):
            yield NO_ROWS if part is None else self._step(network, part)

    def minibatches(self, network: PolicyNetwork, batch: TrainBatch) -> Iterator[TrainBatch | None]:
        """What each step learns from; None where there are fewer unrolls than minibatches."""
        with torch.no_grad():
            q_values = network.unroll(batch_inputs(batch), batch.state)[0].q_values
            best = only_allowed(q_values, mask_of(batch)).amax(-1)
            targets = self.returns(batch, best, self._options.lambda_)
        batch = replace(batch, fields={**batch.fields, _TARGET: targets})
        orders = orders_of(batch, self._options.epochs)
        yield from minibatches_of(batch, orders=orders, minibatches=self._options.minibatches)

    def _step(self, network: PolicyNetwork, batch: TrainBatch) -> Step:
        inputs = batch_inputs(batch).map(lambda x: x[:-1])
        q_values = network.unroll(inputs, batch.state)[0].q_values
        return self.regress(q_values, batch.fields[_TARGET], batch)
