"""Harvest: REINFORCE (Williams 1992) with a bonus for entropy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.algorithms.interface import EVERYTHING, Algorithm
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import action_field
from seedbed.server.losses.masking import masked_reduce, only_valid, weight_of
from seedbed.server.losses.policy_gradient import policy_gradient_loss
from seedbed.server.losses.returns import lambda_returns
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.options.config import ServerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class HarvestOptions:
    """harvest"""

    return_scale: float = option(1.0, "multiplies returns")
    curiosity: float = option(0.01, "weight of the entropy of the policy")


class Harvest(Algorithm):
    """The algorithm behind --algorithm harvest."""

    Options = HarvestOptions
    regime = "rounds"

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        super().__init__(config, spec)
        self._space = ActionSpace(spec.actions)
        self._actions = [action_field(action.name) for action in spec.actions]
        self.recorded = {}
        self.num_rows = config.learning.unroll_length + 1
        self.period = config.learning.unroll_length

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Any."""
        return -1

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """With the torso of this package."""
        return {"learning.unroll_length": 10, "network.torso": "orchard.torso:Attention", "learning.discount": 0.0}

    def make_learnt(self) -> ActorCritic:
        """See the base class."""
        return ActorCritic(self._spec.shown, self._space, self._network)

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Samples."""
        outputs, state = network.step(inputs, state)
        samples = self._space.distribution(outputs.policy, inputs.mask).sample(acting.generator)
        return Decision(samples, self._space.sent(samples), {}, state)

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """One, of everything."""
        fields, valid = batch.fields, batch.valid
        outputs, _ = self.acting(learnt).unroll(batch_inputs(batch), batch.state)
        policy = self._space.distribution(only_valid(outputs.policy[:-1], valid), None)
        returns = lambda_returns(
            rewards=fields["reward"][1:],
            discounts=self._learning.discount * fields["discount"][1:],
            values=torch.zeros_like(fields["reward"]),
            valid=valid,
        )
        gained = policy_gradient_loss(
            log_probs=policy.log_prob(tuple(only_valid(fields[name][:-1], valid) for name in self._actions)),
            advantages=self._options.return_scale * returns,
            valid=valid,
            reduction="mean",
        )
        entropy = masked_reduce(policy.entropy(), valid, "mean")
        loss = gained - self._options.curiosity * entropy
        yield Step(loss, EVERYTHING, weight_of(valid, "mean"), {"loss": loss.detach(), "entropy": entropy.detach()})
