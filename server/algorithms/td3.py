"""TD3 (Fujimoto et al. 2018, arXiv 1802.09477): SAC's deterministic sibling, for boxes.

    y           r + d min_i Q'_i(s', clip(mu'(s') + clip(noise, +- 0.5), +- 1))
    critics     1/2 (Q_i(s, a) - y)^2
    actor       - Q_1(s, mu(s)), in every second update

The policy sends tanh of its numbers and explores by noise on that. Policy and critics have target networks, body
included. The paper moves them by 0.005 in every second update; here they move by half of that in each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.best import Best
from seedbed.server.algorithms.replayed_actor import (
    ACTOR,
    CRITIC,
    ReplayedActor,
    ReplayedActorOptions,
    expect_boxes,
    replayed,
    trained_valid,
)
from seedbed.server.algorithms.update_steps import Group, Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.masking import only_valid, weight_of
from seedbed.server.losses.soft import actor_loss
from seedbed.server.networks.distributions import ActionDistribution
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.networks.soft import ActorAndCritics, SquashedMean
from seedbed.server.options.config import ServerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TD3Options(ReplayedActorOptions):
    """TD3"""

    tau: float = option(0.0025, "share by which target networks move towards the learnt ones after every update")
    policy_delay: int = option(2, "updates of the critics for each of the policy", minimum=1)
    exploration_noise: float = option(0.1, "deviation of the noise on actions in [-1, 1]", minimum=0)
    target_noise: float = option(0.2, "deviation of the noise on actions that targets are made with", minimum=0)
    target_noise_limit: float = option(0.5, "largest such noise", minimum=0)


class TD3(ReplayedActor):
    """The algorithm behind `--algorithm td3`."""

    Options = TD3Options

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """See the base class.

        Raises:
            SpecError: other actions than boxes.
        """
        super().__init__(config, spec)
        expect_boxes(config.algorithm, spec)
        self._td3: TD3Options = config.algorithm_options
        self._moves_policy = True

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Boxes alone, but nobody chooses it unasked."""
        return -2 if all(action.kind == "box" for action in spec.actions) else None

    def make_learnt(self) -> ActorAndCritics:
        """See the base class."""
        policy = SquashedMean(self._spec.shown, self._space, self._network, hidden=self.hidden)
        return ActorAndCritics(policy, self.box_critics(policy.body.output_size), self.observation_moments())

    def acting(self, learnt: nn.Module) -> PolicyNetwork:
        """The policy."""
        return _both(learnt).policy

    def groups(self, learnt: nn.Module) -> Mapping[str, Group]:
        """Two; the critics train the body."""
        network = _both(learnt)
        return {
            CRITIC: Group((*network.policy.body.parameters(), *network.critics.parameters())),
            ACTOR: Group(network.policy.own_parameters()),
        }

    def plan(self, version: int) -> Sequence[str]:
        """The policy has its turn when the critics have had theirs so often; `steps` is of the newest plan."""
        self._moves_policy = version % self._td3.policy_delay == self._td3.policy_delay - 1
        return (CRITIC, ACTOR) if self._moves_policy else (CRITIC,)

    def explore(self, policy: ActionDistribution, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The policy's own actions and noise."""
        return tuple(
            (action + self._td3.exploration_noise * torch.empty_like(action).normal_(generator=generator)).clamp(-1, 1)
            for action in self._space.sent(policy.mode())
        )

    def best(self, network: PolicyNetwork, inputs: Inputs, state: AgentState) -> Best:
        """See the base class; the deviation of 1 is only a form of it."""
        best = super().best(network, inputs, state)
        means = {name: numbers for name, numbers in best.numbers.items() if not name.startswith("log_deviation.")}
        return best._replace(numbers=means)

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """Critics; in some updates the actor."""
        network, theirs, valid = _both(learnt), _both(target), trained_valid(batch)
        features = replayed(network.policy.body, batch)[: len(valid)]
        with torch.no_grad():
            targets = self._targets(theirs, replayed(theirs.policy.body, batch)[1:], batch)
        yield self.critic_step(network.critics, features, targets, batch)
        if self._moves_policy:
            seen = only_valid(features.detach(), valid)
            values = network.critics.values(seen, network.policy.outputs(seen).tanh())[0]
            loss = actor_loss(values=values, valid=valid)
            yield Step(loss, ACTOR, weight_of(valid, "mean"), {"actor_loss": loss.detach()})

    def _targets(self, target: ActorAndCritics, ahead: Tensor, batch: TrainBatch) -> Tensor:
        """y of the transitions that are trained on, `[T, B]`, from features of the rows behind them."""
        action, limit = target.policy.outputs(ahead).tanh(), self._td3.target_noise_limit
        noise = (self._td3.target_noise * torch.randn_like(action)).clamp(-limit, limit)
        values = target.critics.values(ahead, smoothed(action, noise)).amin(0)
        return self.returns(batch, values, torch.zeros_like(values))


def smoothed(action: Tensor, noise: Tensor) -> Tensor:
    """An action in [-1, 1] with noise, still in there."""
    return (action + noise).clamp(-1.0, 1.0)


def _both(learnt: nn.Module | None) -> ActorAndCritics:
    assert isinstance(learnt, ActorAndCritics)
    return learnt
