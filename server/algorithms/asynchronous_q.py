"""What one-step Q, one-step Sarsa and n-step Q have in common (Mnih et al. 2016, arXiv 1602.01783).

Q-learning without a replay: many environments, each exploring at a rate of its own, take the replay's place in making a
batch diverse. A target network gives the values that returns bootstrap from. A member of the family says what a row is
worth (`row_values`) and how far returns look (`lambda_`).

Shapes: L rows, T = L - 1 transitions, B unrolls, A actions.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.body_options import body_options
from seedbed.server.algorithms.exploration import annealed_epsilon, epsilon_greedy
from seedbed.server.algorithms.interface import Acting, Algorithm, Decision, Loss, batch_inputs
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import action_field
from seedbed.server.losses.policy_gradient import masked_reduce
from seedbed.server.losses.q_learning import q_loss, values_of
from seedbed.server.losses.returns import lambda_returns
from seedbed.server.losses.rewards import clip_rewards
from seedbed.server.networks.action_values import QNetwork
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.options.config import ServerConfig


class AsynchronousQ(Algorithm):
    """Base of the family.

    Attributes:
        lambda_: of the returns: 0 looks one step ahead, 1 to the end of the unroll.
    """

    evaluates_greedily = True
    lambda_: float

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        self._learning = config.learning
        self._network = config.network
        self._exploration_steps = config.asynchronous_q.exploration_steps
        self._spec = spec
        self._action = action_field(spec.actions[0].name)
        self.recorded = {}
        self.num_rows = config.learning.unroll_length + 1
        self.period = config.learning.unroll_length
        self.batch_size = config.learning.batch_size
        self.target_period_updates = config.q_learning.target_period_updates

    def make_network(self) -> QNetwork:
        """See the base class."""
        return QNetwork(
            self._spec.observations,
            self._spec.num_actions,
            **body_options(self._network),
        )

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Epsilon-greedy, less and less, each environment down to an epsilon of its own."""
        outputs, state = network.step(inputs, state)
        epsilon = annealed_epsilon(acting.environment_indices, acting.agent_steps, self._exploration_steps)
        if acting.greedy is not None:
            epsilon = epsilon.masked_fill(acting.greedy, 0.0)
        action = epsilon_greedy(outputs.q_values, epsilon, acting.generator)
        return Decision((action,), (action,), {}, state)

    def loss(self, network: PolicyNetwork, target: PolicyNetwork | None, batch: TrainBatch) -> Loss:
        """Half the mean squared error of the actions taken."""
        assert target is not None
        fields, valid, inputs = batch.fields, batch.valid, batch_inputs(batch)
        q_values = network.unroll(inputs, batch.state)[0].q_values[:-1]
        with torch.no_grad():
            values = self.row_values(target.unroll(inputs, batch.state)[0].q_values, fields[self._action])
        targets = lambda_returns(
            rewards=clip_rewards(fields["reward"][1:], self._learning.reward_clipping),
            discounts=self._learning.discount * fields["discount"][1:],
            values=values,
            valid=valid,
            lambda_=self.lambda_,
        )
        action = fields[self._action][:-1]
        total = q_loss(q_values=q_values, actions=action, targets=targets, valid=valid, reduction="mean")
        taken = values_of(q_values.detach(), action)
        metrics = {
            "loss": total.detach(),
            "td_error_mean": masked_reduce((targets - taken).abs(), valid, "mean"),
            "q_value_mean": masked_reduce(q_values.detach().amax(-1), valid, "mean"),
        }
        return Loss(total, metrics)

    @abstractmethod
    def row_values(self, q_values: Tensor, action: Tensor) -> Tensor:
        """What each row is worth.

        Args:
            q_values: of the target network, `[L, B, A]`.
            action: the actions that answered the rows, int64 `[L, B]`.

        Returns:
            `[L, B]`.
        """
