"""What V-trace, A2C, A3C and PPO have in common: the network, sampling from it, and the terms of the loss.

Actions are sampled from the softmax policy; the logits sampled from are recorded. A member of the family says what its
value targets and advantages are (`targets`), and may replace the term of the policy (`policy_loss`).

Shapes: T transitions, B unrolls, A actions; T + 1 rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.body_options import body_options
from seedbed.server.algorithms.interface import Acting, Algorithm, Decision, Loss, batch_inputs
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import FieldSpec, action_field
from seedbed.server.losses.policy_gradient import (
    baseline_loss,
    entropy,
    entropy_loss,
    kl_divergence,
    log_prob,
    masked_reduce,
    policy_gradient_loss,
)
from seedbed.server.losses.rewards import clip_rewards
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.interface import AgentState, Inputs, Outputs, PolicyNetwork
from seedbed.server.options.config import ActorCriticConfig, LearningConfig, NetworkConfig


class Targets(NamedTuple):
    """What a loss pulls towards; no gradient flows through either.

    Attributes:
        values: `[T, B]`.
        advantages: `[T, B]`, with whatever importance weights they need.
    """

    values: Tensor
    advantages: Tensor


@dataclass(frozen=True, slots=True)
class Learnt:
    """A train batch as the parameters being learnt see it.

    Attributes:
        logits, behaviour_logits: of the learnt and of the acting policy, `[T, B, A]`.
        action: int64 `[T, B]`.
        log_rhos: log pi(a) - log mu(a), without gradient, `[T, B]`.
        rewards: clipped, `[T, B]`.
        discounts: gamma times the environment's, `[T, B]`.
        values: of every row, `[T+1, B]`.
        valid: bool `[T, B]`.
    """

    logits: Tensor
    behaviour_logits: Tensor
    action: Tensor
    log_rhos: Tensor
    rewards: Tensor
    discounts: Tensor
    values: Tensor
    valid: Tensor


class ActorCriticAlgorithm(Algorithm):
    """Base of the family."""

    def __init__(
        self, config: ActorCriticConfig, learning: LearningConfig, network: NetworkConfig, spec: EnvironmentSpec
    ) -> None:
        self._config = config
        self._learning = learning
        self._network = network
        self._spec = spec
        self._action = action_field(spec.actions[0].name)
        self.recorded = {"behaviour_logits": FieldSpec((spec.num_actions,), torch.float32)}
        self.num_rows = learning.unroll_length + 1
        self.period = learning.unroll_length
        self.batch_size = learning.batch_size

    def make_network(self) -> ActorCritic:
        """See the base class."""
        return ActorCritic(
            self._spec.observations,
            self._spec.num_actions,
            **body_options(self._network),
        )

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Samples from the policy; greedy rows take its mode."""
        outputs, state = network.step(inputs, state)
        logits = outputs.logits
        action = _sample(logits, acting.generator)
        if acting.greedy is not None:
            action = torch.where(acting.greedy, logits.argmax(-1), action)
        return Decision((action,), (action,), {"behaviour_logits": logits}, state)

    def loss(self, network: PolicyNetwork, target: PolicyNetwork | None, batch: TrainBatch) -> Loss:
        """Policy gradient, baseline and entropy terms."""
        config, learnt = self._config, self.evaluate(network, batch)
        targets = self.targets(learnt, batch)
        policy = self.policy_loss(learnt, targets.advantages)
        baseline = baseline_loss(
            values=learnt.values[:-1], targets=targets.values, valid=learnt.valid, reduction=config.reduction
        )
        negative_entropy = entropy_loss(logits=learnt.logits, valid=learnt.valid, reduction=config.reduction)
        total = policy + config.baseline_cost * baseline + config.entropy_cost * negative_entropy
        terms = {"loss": total, "policy_loss": policy, "baseline_loss": baseline}
        return Loss(total, {**{name: term.detach() for name, term in terms.items()}, **_diagnostics(learnt)})

    def evaluate(self, network: PolicyNetwork, batch: TrainBatch) -> Learnt:
        """Runs the network over a train batch and shifts its rows into transitions."""
        fields = batch.fields
        outputs: Outputs = network.unroll(batch_inputs(batch), batch.state)[0]
        logits, behaviour_logits = outputs.logits[:-1], fields["behaviour_logits"][:-1]
        action = fields[self._action][:-1]
        return Learnt(
            logits=logits,
            behaviour_logits=behaviour_logits,
            action=action,
            log_rhos=log_prob(logits.detach(), action) - log_prob(behaviour_logits, action),
            rewards=clip_rewards(fields["reward"][1:], self._learning.reward_clipping),
            discounts=self._learning.discount * fields["discount"][1:],
            values=outputs.value,
            valid=batch.valid,
        )

    @abstractmethod
    def targets(self, learnt: Learnt, batch: TrainBatch) -> Targets:
        """What values and policy are pulled towards."""

    def policy_loss(self, learnt: Learnt, advantages: Tensor) -> Tensor:
        """The policy gradient: -log pi(a) A, reduced."""
        return policy_gradient_loss(
            logits=learnt.logits,
            actions=learnt.action,
            advantages=advantages,
            valid=learnt.valid,
            reduction=self._config.reduction,
        )


@torch.no_grad()
def _diagnostics(learnt: Learnt) -> Mapping[str, Tensor]:
    """How far the acting policy was from the learnt one, over valid transitions."""
    logits, valid, log_rhos = learnt.logits.detach(), learnt.valid, learnt.log_rhos
    absolute = torch.where(valid, log_rhos.abs(), 0.0)
    return {
        "entropy": masked_reduce(entropy(logits), valid, "mean"),
        "kl_behaviour": masked_reduce(kl_divergence(learnt.behaviour_logits, logits), valid, "mean"),
        "abs_log_rho_mean": masked_reduce(absolute, valid, "mean"),
        "abs_log_rho_max": absolute.max(),
        "rho_clipped_share": masked_reduce((log_rhos > 0).float(), valid, "mean"),
    }


def _sample(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from softmax(logits) by exponential races: the first of Exp(p_i) arrivals is i with probability p_i."""
    arrivals = torch.empty_like(logits).exponential_(generator=generator)
    return (logits.softmax(-1) / arrivals).argmax(-1)
