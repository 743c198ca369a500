"""Actor-critics: what V-trace, A2C, A3C and PPO share.

Actions are sampled from the policy, over any action space; its parameters are recorded. A member of the family says
what its value targets and advantages are (`targets`), and may replace the term of the policy (`policy_loss`).

Shapes: T transitions, B unrolls; T + 1 rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.batch_reading import batch_inputs, mask_of
from seedbed.server.algorithms.best import Best, best_of_policy
from seedbed.server.algorithms.interface import EVERYTHING, Algorithm
from seedbed.server.algorithms.risk import REWARDS, risk_bound
from seedbed.server.algorithms.seen import Seen, Targets, diagnostics
from seedbed.server.algorithms.task_losses import (
    VALUE_TARGETS,
    in_units_of,
    spreads_of,
    task_of,
    task_shares,
    value_moments,
    weighted,
    weights_of,
)
from seedbed.server.algorithms.update_steps import ScaledHead, Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import TASK, FieldSpec, action_field
from seedbed.server.losses.masking import only_valid, rows_where, weight_of
from seedbed.server.losses.policy_gradient import baseline_loss, entropy_loss, policy_gradient_loss
from seedbed.server.losses.returns import lambda_returns
from seedbed.server.losses.rewards import clip_rewards
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.array_kinds import as_read, shows_images
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs, Outputs, PolicyNetwork
from seedbed.server.networks.normaliser import is_normalised
from seedbed.server.networks.risk import RiskBound
from seedbed.server.networks.task_shares import TASK_COUNTS, TaskShares
from seedbed.server.networks.value_head import ValueHead, ValueMoments
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.network import NetworkConfig

BEHAVIOUR = "behaviour"
"""Recorded field: the parameters of the policy that acted, as its head gave them."""


class ActorCriticAlgorithm(Algorithm):
    """Base of the family."""

    gossips = True

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """See the base class."""
        super().__init__(config, spec)
        self._options.risk.check(config.learning.reward_clipping)
        self._space = ActionSpace(spec.actions, squash=self._options.squash, deviation=self._options.deviation)
        names = config.tasks.names or tuple(map(str, range(spec.num_tasks)))
        self._tasks = names if spec.num_tasks > 1 else ()
        self._shares = config.tasks.plan.shares if config.tasks.tasks else (1 / spec.num_tasks,) * spec.num_tasks
        self._actions = [action_field(action.name) for action in spec.actions]
        # The noise of a Gaussian explores, a softmax is what is learnt: as peers evaluate them.
        self.evaluates_greedily = has_boxes(spec)
        self.sums = self._options.reduction == "sum"
        self.recorded = {BEHAVIOUR: FieldSpec((self._space.param_size,), torch.float32)}
        self.num_rows = config.learning.unroll_length + 1
        self.period = config.learning.unroll_length

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Any."""
        return 0

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """What an environment asks of the family; docs/defaults.md has what was measured.

        A value torso of its own where torsos are cheap: returns of any scale leave the policy's features alone. Values
        scaled where rewards are of any scale: those of Atari are clipped. Observations, where some have moments.
        """
        return {
            "algorithm_options.separate_value_torso": not shows_images(spec.shown),
            # With several tasks those of Atari too: PopArt-IMPALA has 110.7 % of people, IMPALA 59.7, both clipped.
            "algorithm_options.popart": "off" if spec.preset and spec.num_tasks == 1 else "on",
            "network.normalise_observations": "on" if any(map(is_normalised, map(as_read, spec.shown))) else "off",
        }

    def make_learnt(self) -> nn.Module:
        """See the base class."""
        return self.with_statistics(self.make_network(self._network), *self.reward_statistics())

    def make_network(self, config: NetworkConfig) -> ActorCritic:
        """Policy and value of rows, fresh."""
        return ActorCritic(
            self._spec.shown,
            self._space,
            config,
            separate_value=self._options.separate_value_torso,
            scaled_values=self._options.popart == "on",
        )

    def reward_statistics(self) -> tuple[ValueMoments | None, RiskBound | None, TaskShares | None]:
        """Moments of value targets, bound on the variance of rewards, shares of tasks, fresh; None: there is none."""
        options = self._options
        return (
            ValueMoments(self._spec.num_tasks, rate=options.popart_rate) if options.popart == "on" else None,
            None if options.risk.risk_variance is None else RiskBound(options.risk),
            TaskShares(self._shares) if options.keep_shares and self._tasks else None,
        )

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Samples from the policy; greedy rows take its mode."""
        outputs, state = network.step(inputs, state)
        policy = self._space.distribution(outputs.policy, inputs.mask)
        actions = policy.sample(acting.generator)
        if acting.greedy is not None:
            pairs = zip(policy.mode(), actions, strict=True)
            actions = tuple(rows_where(acting.greedy, best, sample) for best, sample in pairs)
        shown = {"policy": policy.shown(), "value": outputs.value} if acting.watched else None
        return Decision(actions, self._space.sent(actions), {BEHAVIOUR: outputs.policy}, state, shown)

    def best(self, network: PolicyNetwork, inputs: Inputs, state: AgentState) -> Best:
        """The mode, and the value."""
        outputs, state = network.step(inputs, state)
        policy = self._space.distribution(outputs.policy, inputs.mask)
        return best_of_policy(self._space, policy, state, value=outputs.value)

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """One, on everything."""
        yield self.step(learnt, batch)

    def step(self, learnt: nn.Module, batch: TrainBatch) -> Step:
        """On what the acting part sees."""
        return self.step_on(self.see(learnt, batch), learnt, batch)

    def step_on(self, seen: Seen, learnt: nn.Module, batch: TrainBatch) -> Step:
        """Policy gradient, baseline and entropy terms; with PopArt in units of the spread of value targets."""
        config = self._options
        targets = self.targets(seen, batch)
        moments, shares = {}, task_shares(learnt)
        if (risk := risk_bound(learnt)) is not None:
            moments[REWARDS] = risk.sums(batch.fields["reward"][1:], seen.valid)
        if shares is not None:
            moments[TASK_COUNTS] = shares.counts(batch.fields[TASK][:-1], seen.valid)
            seen = replace(seen, weights=weights_of(shares, batch))
        if (statistics := value_moments(learnt)) is not None:
            moments[VALUE_TARGETS] = statistics.sums(targets.values, seen.valid, task_of(batch))
            if targets.spreads is None:
                sums = self.everybodys({VALUE_TARGETS: moments[VALUE_TARGETS]})
                targets = targets._replace(spreads=spreads_of(statistics.scale(sums[VALUE_TARGETS]), batch))
        values, wanted, advantages = in_units_of(targets.spreads, seen.values[:-1], targets.values, targets.advantages)
        if targets.normal is not None:
            mean, deviation = targets.normal
            advantages = (advantages - mean) / (deviation + 1e-8)
        policy = self.policy_loss(seen, advantages)
        root = None if seen.weights is None else seen.weights.sqrt()  # errors are squared
        baseline = baseline_loss(
            values=weighted(values, root),
            targets=weighted(wanted, root),
            valid=seen.valid,
            reduction=config.reduction,
        )
        negative_entropy = entropy_loss(
            entropies=weighted(seen.policy.entropy_bonus(), seen.weights), valid=seen.valid, reduction=config.reduction
        )
        total = policy + config.baseline_cost * baseline + config.entropy_cost * negative_entropy
        if config.continuous_entropy_cost:
            total = total + config.continuous_entropy_cost * entropy_loss(
                entropies=weighted(seen.policy.continuous_entropy_bonus(), seen.weights),
                valid=seen.valid,
                reduction=config.reduction,
            )
        terms = {"loss": total, "policy_loss": policy, "baseline_loss": baseline}
        metrics = {**{name: term.detach() for name, term in terms.items()}, **diagnostics(seen)}
        log_rho = torch.where(seen.valid, seen.log_ratios.detach(), torch.nan)
        weight = weight_of(seen.valid, config.reduction)
        return Step(total, EVERYTHING, weight, metrics, moments=moments, histograms={"log_rho": log_rho})

    def everybodys(self, sums: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Sums over the batches of all learners."""
        return sums if self.over_learners is None else self.over_learners(sums)

    def no_sums(self, learnt: nn.Module) -> Mapping[str, Tensor]:
        """See the base class: errors are divided by a spread that takes in the batch at hand."""
        statistics = value_moments(learnt)
        return {} if statistics is None else {VALUE_TARGETS: statistics.no_sums()}

    def no_moments(self, learnt: nn.Module) -> Mapping[str, Tensor]:
        """See the base class; those of rewards, value targets and tasks, too, where they are kept."""
        found, statistics, shares = dict(super().no_moments(learnt)), value_moments(learnt), task_shares(learnt)
        if (risk := risk_bound(learnt)) is not None:
            found[REWARDS] = risk.no_sums()
        if statistics is not None:
            found[VALUE_TARGETS] = statistics.no_sums()
        if shares is not None:
            found[TASK_COUNTS] = torch.zeros_like(shares.shares)
        return found

    def mixable(self, learnt: nn.Module) -> Sequence[ScaledHead]:
        """See the base class."""
        heads = () if value_moments(learnt) is None else self.value_heads(learnt)
        return tuple(ScaledHead(head.weight, head.bias, head.spread, head.mean) for head in heads)

    def value_heads(self, learnt: nn.Module) -> Sequence[ValueHead]:
        """With PopArt all heads that give values, in one unit."""
        head = self.acting(learnt).value
        assert isinstance(head, ValueHead)
        return (head,)

    def after_update(self, learnt: nn.Module, moments: Mapping[str, Tensor]) -> None:
        """See the base class; the value head, too, is rewritten for new moments of its targets: values stay."""
        super().after_update(learnt, moments)
        if (shares := task_shares(learnt)) is not None and TASK_COUNTS in moments:
            shares.merge(moments[TASK_COUNTS])
        if (risk := risk_bound(learnt)) is not None and REWARDS in moments:
            risk.merge(moments[REWARDS])
        if (statistics := value_moments(learnt)) is not None and VALUE_TARGETS in moments:
            statistics.merge(moments[VALUE_TARGETS])
            for head in self.value_heads(learnt):
                head.rescale(statistics.scale())

    def statistics(self, learnt: nn.Module) -> Mapping[str, Tensor]:
        """See the base class."""
        found = dict(super().statistics(learnt))
        if (risk := risk_bound(learnt)) is not None:
            found |= risk.metrics()
        if (shares := task_shares(learnt)) is not None:
            weights = shares.weights()
            found |= {f"task/{name}/loss_weight": weights[number] for number, name in enumerate(self._tasks)}
        if (statistics := value_moments(learnt)) is None:
            return found
        scale = statistics.scale()
        found |= {"value_target_mean": scale.mean.mean(), "value_target_spread": scale.spread.mean()}
        for number, name in enumerate(self._tasks):
            found[f"task/{name}/value_target_mean"] = scale.mean[number]
            found[f"task/{name}/value_target_spread"] = scale.spread[number]
        return found

    def see(self, learnt: nn.Module, batch: TrainBatch) -> Seen:
        """Runs the network over a train batch and shifts its rows into transitions."""
        outputs: Outputs = self.acting(learnt).unroll(batch_inputs(batch), batch.state)[0]
        return self.seen_of(outputs, learnt, batch)

    def seen_of(self, outputs: Outputs, learnt: nn.Module, batch: TrainBatch) -> Seen:
        """The rows of a train batch, and what parameters say of each, as transitions."""
        fields, valid = batch.fields, batch.valid
        rewards = clip_rewards(fields["reward"][1:], self._learning.reward_clipping)
        if (risk := risk_bound(learnt)) is not None:
            rewards = risk.adjusted(rewards)
        mask = mask_of(batch, slice(-1))
        policy = self._space.distribution(only_valid(outputs.policy[:-1], valid), mask)
        behaviour = self._space.distribution(only_valid(fields[BEHAVIOUR][:-1], valid), mask)
        actions = tuple(only_valid(fields[name][:-1], valid) for name in self._actions)
        log_probs = policy.log_prob(actions)
        return Seen(
            policy=policy,
            behaviour=behaviour,
            actions=actions,
            log_probs=log_probs,
            log_ratios=log_probs - behaviour.log_prob(actions),
            rewards=rewards,
            discounts=self._learning.discount * fields["discount"][1:],
            values=outputs.value,
            valid=valid,
        )

    @abstractmethod
    def targets(self, seen: Seen, batch: TrainBatch) -> Targets:
        """What values and policy are pulled towards."""

    def policy_loss(self, seen: Seen, advantages: Tensor) -> Tensor:
        """The policy gradient: -log pi(a) A, reduced."""
        return policy_gradient_loss(
            log_probs=seen.log_probs,
            advantages=weighted(advantages, seen.weights),
            valid=seen.valid,
            reduction=self._options.reduction,
        )


def has_boxes(spec: EnvironmentSpec) -> bool:
    """Whether an action array of an environment takes any value within bounds."""
    return any(action.kind == "box" for action in spec.actions)


def return_targets(seen: Seen, lambda_: float) -> Targets:
    """Lambda returns of the policy that acted, taken for the one being learnt, and what they exceed the values by."""
    values = seen.values.detach()
    returns = lambda_returns(
        rewards=seen.rewards, discounts=seen.discounts, values=values, valid=seen.valid, lambda_=lambda_
    )
    return Targets(returns, returns - values[:-1])
