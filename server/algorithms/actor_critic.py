"""Actor-critics: what V-trace, A2C, A3C and PPO share, and the two whose targets are plain returns, A2C and A3C.

A3C (Mnih et al. 2016, arXiv 1602.01783, algorithm S3) takes every action for one of the policy being learnt, though
older parameters chose it: there is no correction for policy lag. In the paper each thread learns from its own last few
steps and the lag is what other threads did meanwhile; here it is what waits in the queue. V-trace with rho = 1 is the
same computation. A2C is A3C's loss on what the very parameters being learnt did.

Actions are sampled from the softmax policy; the logits sampled from are recorded. A member of the family says what its
value targets and advantages are (`targets`), and may replace the term of the policy (`policy_loss`).

Shapes: T transitions, B unrolls, A actions; T + 1 rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.body_options import body_options
from seedbed.server.algorithms.interface import Acting, Algorithm, Decision, Loss, batch_inputs, has_one_discrete_action
from seedbed.server.algorithms.published import ASYNCHRONOUS
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
from seedbed.server.losses.returns import lambda_returns
from seedbed.server.losses.rewards import clip_rewards
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.interface import AgentState, Inputs, Outputs, PolicyNetwork
from seedbed.server.options.config import ServerConfig


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorCriticOptions:
    """actor-critic"""

    lambda_: float = option(
        1.0, "multiplies the clipped trace coefficients c of V-trace; in the others, that of GAE", flag="--lambda"
    )
    baseline_cost: float = option(0.5, "weight of half the squared value error")
    entropy_cost: float = option(0.01, "weight of the entropy bonus")
    reduction: Literal["mean", "sum"] = option(
        "mean",
        "over valid steps; sum as in IMPALA's paper wants its optimiser: --optimiser rmsprop --epsilon 0.01 "
        "--clip-norm 40 --learning-rate 6e-4",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class A3COptions(ActorCriticOptions):
    """A3C"""

    reduction: Literal["mean", "sum"] = option("sum", "over valid steps")


class ActorCriticAlgorithm(Algorithm):
    """Base of the family."""

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """See the base class."""
        super().__init__(config, spec)
        self._action = action_field(spec.actions[0].name)
        self.recorded = {"behaviour_logits": FieldSpec((spec.num_actions,), torch.float32)}
        self.num_rows = config.learning.unroll_length + 1
        self.period = config.learning.unroll_length

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Any with one discrete action."""
        return 0 if has_one_discrete_action(spec) else None

    def make_network(self) -> ActorCritic:
        """See the base class."""
        return ActorCritic(
            self._spec.shown,
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
        config, learnt = self._options, self.evaluate(network, batch)
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
            reduction=self._options.reduction,
        )


class A3C(ActorCriticAlgorithm):
    """The algorithm behind `--algorithm a3c`."""

    Options = A3COptions

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """Section 5.1 of the paper and its supplement, section 8."""
        return {**ASYNCHRONOUS, "optimiser.epsilon": 0.1}

    def targets(self, learnt: Learnt, batch: TrainBatch) -> Targets:
        """n-step returns at lambda 1, as published; GAE below."""
        return return_targets(learnt, self._options.lambda_)


class A2C(ActorCriticAlgorithm):
    """The algorithm behind `--algorithm a2c`. A train batch is one unroll of every environment; the lag is 0."""

    Options = ActorCriticOptions
    regime = "rounds"

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """OpenAI Baselines, baselines/a2c/a2c.py, for Atari."""
        return {
            "learning.unroll_length": 5,
            "optimiser.optimiser": "rmsprop_tf",
            "optimiser.learning_rate": 7e-4,
            "optimiser.epsilon": 1e-5,
            "optimiser.clip_norm": 0.5,
        }

    def targets(self, learnt: Learnt, batch: TrainBatch) -> Targets:
        """n-step returns at lambda 1, GAE below."""
        return return_targets(learnt, self._options.lambda_)


def return_targets(learnt: Learnt, lambda_: float) -> Targets:
    """Lambda returns of the policy that acted, taken for the one being learnt, and what they exceed the values by."""
    values = learnt.values.detach()
    returns = lambda_returns(
        rewards=learnt.rewards, discounts=learnt.discounts, values=values, valid=learnt.valid, lambda_=lambda_
    )
    return Targets(returns, returns - values[:-1])


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
