"""Q-learning without a replay: one-step Q, one-step Sarsa and n-step Q (Mnih et al. 2016, arXiv 1602.01783).

Many environments, each exploring at a rate of its own, take the replay's place in making a batch diverse. A target
network gives the values that returns bootstrap from. A member of the family says what a row is worth (`row_values`) and
how far returns look (`lambda_`). PQN, which needs no target network, shares `QLearning` with them.

Shapes: L rows, T = L - 1 transitions, B unrolls, A actions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.batch_reading import batch_inputs, mask_of
from seedbed.server.algorithms.best import Best, best_of_values
from seedbed.server.algorithms.exploration import annealed_epsilon, epsilon_greedy, shown_of
from seedbed.server.algorithms.interface import EVERYTHING, Algorithm
from seedbed.server.algorithms.published import ASYNCHRONOUS
from seedbed.server.algorithms.requirements import expect_one_discrete_action, has_one_discrete_action
from seedbed.server.algorithms.update_steps import Step, Target
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import action_field
from seedbed.server.losses.masking import masked_reduce, only_valid, weight_of
from seedbed.server.losses.q_learning import only_allowed, q_loss, values_of
from seedbed.server.losses.returns import lambda_returns
from seedbed.server.losses.rewards import clip_rewards
from seedbed.server.networks.action_values import QNetwork
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.options.config import ServerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class QLearningOptions:
    """Q-learning without a replay"""

    target_period_updates: int = option(2000, "updates between two copies to the target network", minimum=1)
    exploration_steps: int = option(
        1_000_000, "agent steps over which epsilon falls from 1 to 0.1, 0.01 or 0.5, by environment", minimum=1
    )


class QLearning(Algorithm):
    """Base of Q-learning on the unrolls that the policy has just made; a member says how it explores (`epsilon`)."""

    shows = "q_values"
    evaluates_greedily = True

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Any with one discrete action."""
        return 0 if has_one_discrete_action(spec) else None

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """See the base class."""
        super().__init__(config, spec)
        expect_one_discrete_action(spec, config.algorithm)
        self._action = action_field(spec.actions[0].name)
        self.recorded = {}
        self.num_rows = config.learning.unroll_length + 1
        self.period = config.learning.unroll_length

    def make_learnt(self) -> nn.Module:
        """See the base class."""
        return self.with_statistics(QNetwork(self._spec.shown, ActionSpace(self._spec.actions), self._network))

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Epsilon-greedy, less and less."""
        outputs, state = network.step(inputs, state)
        epsilon = self.epsilon(acting)
        if acting.greedy is not None:
            epsilon = epsilon.masked_fill(acting.greedy, 0.0)
        action = epsilon_greedy(outputs.q_values, epsilon, acting.generator, inputs.mask)
        return Decision((action,), (action,), {}, state, shown_of(outputs.q_values, inputs.mask, acting))

    def best(self, network: PolicyNetwork, inputs: Inputs, state: AgentState) -> Best:
        """The action of highest value."""
        outputs, state = network.step(inputs, state)
        return best_of_values(outputs.q_values, inputs.mask, state)

    @abstractmethod
    def epsilon(self, acting: Acting) -> Tensor:
        """How often each row takes any action instead of the best, `[N]`."""

    def returns(self, batch: TrainBatch, values: Tensor, lambda_: float) -> Tensor:
        """Lambda returns, `[T, B]`, from what each row is worth, `[L, B]`."""
        return lambda_returns(
            rewards=clip_rewards(batch.fields["reward"][1:], self._learning.reward_clipping),
            discounts=self._learning.discount * batch.fields["discount"][1:],
            values=values,
            valid=batch.valid,
            lambda_=lambda_,
        )

    def regress(self, q_values: Tensor, targets: Tensor, batch: TrainBatch) -> Step:
        """Half the mean squared error of the actions taken.

        Args:
            q_values: of every row but the last, `[T, B, A]`; the gradient flows.
            targets: `[T, B]`.
            batch: that they belong to.
        """
        valid = batch.valid
        action = only_valid(batch.fields[self._action][:-1], valid)
        total = q_loss(q_values=q_values, actions=action, targets=targets, valid=valid, reduction="mean")
        taken = values_of(q_values.detach(), action)
        best = only_allowed(q_values.detach(), mask_of(batch, slice(-1))).amax(-1)
        metrics = {
            "loss": total.detach(),
            "td_error_mean": masked_reduce((targets - taken).abs(), valid, "mean"),
            "q_value_mean": masked_reduce(best, valid, "mean"),
        }
        return Step(total, EVERYTHING, weight_of(valid, "mean"), metrics)


class AsynchronousQ(QLearning):
    """Base of the three methods.

    Attributes:
        lambda_: of the returns: 0 looks one step ahead, 1 to the end of the unroll.
    """

    serves = True
    Options = QLearningOptions
    lambda_: float

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """The paper's epsilon of 0.1 belongs to a sum over five steps, this one to their mean."""
        return {**ASYNCHRONOUS, "optimiser.epsilon": 0.004, "fleet.num_greedy_envs": None}

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """See the base class."""
        super().__init__(config, spec)
        self.target = Target(period=self._options.target_period_updates)

    def epsilon(self, acting: Acting) -> Tensor:
        """Each environment's own in the end."""
        return annealed_epsilon(acting.environment_indices, acting.agent_steps, self._options.exploration_steps)

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """One, on half the mean squared error of the actions taken."""
        assert target is not None
        inputs = batch_inputs(batch)
        q_values = self.acting(learnt).unroll(inputs, batch.state)[0].q_values[:-1]
        with torch.no_grad():
            q_target = self.acting(target).unroll(inputs, batch.state)[0].q_values
            values = self.row_values(q_target, batch.fields[self._action], mask_of(batch))
        yield self.regress(q_values, self.returns(batch, values, self.lambda_), batch)

    @abstractmethod
    def row_values(self, q_values: Tensor, action: Tensor, mask: Tensor | None) -> Tensor:
        """What each row is worth.

        Args:
            q_values: of the target network, `[L, B, A]`.
            action: the actions that answered the rows, int64 `[L, B]`.
            mask: of the rows, `[L, B, A]`.

        Returns:
            `[L, B]`.
        """


class OneStepQ(AsynchronousQ):
    """The algorithm behind `--algorithm one_step_q` (algorithm 1): r + gamma max_a Q(s', a; target)."""

    lambda_ = 0.0

    def row_values(self, q_values: Tensor, action: Tensor, mask: Tensor | None) -> Tensor:
        """The best action's."""
        return only_allowed(q_values, mask).amax(-1)


class NStepQ(AsynchronousQ):
    """The algorithm behind `--algorithm n_step_q` (algorithm S2): each step gets the longest return of its unroll."""

    lambda_ = 1.0

    def row_values(self, q_values: Tensor, action: Tensor, mask: Tensor | None) -> Tensor:
        """The best action's."""
        return only_allowed(q_values, mask).amax(-1)


class OneStepSarsa(AsynchronousQ):
    """The algorithm behind `--algorithm one_step_sarsa` (section 4): r + gamma Q(s', a'; target), a' as taken."""

    lambda_ = 0.0

    def row_values(self, q_values: Tensor, action: Tensor, mask: Tensor | None) -> Tensor:
        """The chosen action's, explored or not. At a time limit: of the action that the last observation was given."""
        return values_of(q_values, action)
