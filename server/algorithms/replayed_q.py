"""What R2D2 and Ape-X have in common: double, dueling, n-step Q-learning on replayed unrolls.

An unroll of this family has three parts:

    | burn-in | trained on | lookahead |        L = burn_in + T + lookahead + 1 rows

The burn-in refreshes the agent state that was stored before row 0, without gradient; the lookahead is only there for
the returns of the transitions before it. Inference records its Q-values: from them new unrolls get their priority.

Shapes: N inference batch, T transitions, B unrolls, A actions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.body_options import body_options
from seedbed.server.algorithms.exploration import epsilon_greedy, epsilon_ladder
from seedbed.server.algorithms.interface import Acting, Algorithm, Decision, Loss, batch_inputs
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import FieldSpec, action_field
from seedbed.server.losses.policy_gradient import masked_reduce
from seedbed.server.losses.q_learning import values_of
from seedbed.server.losses.rewards import clip_rewards
from seedbed.server.losses.value_learning import double_q_values, n_step_targets, unroll_losses, unroll_priorities
from seedbed.server.losses.value_rescaling import rescale, unrescale
from seedbed.server.networks.dueling import Dueling
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.options.config import ServerConfig


class Errors(NamedTuple):
    """Temporal-difference errors of an unroll's transitions after the burn-in.

    Attributes:
        errors: target less Q(s_t, a_t), `[T + lookahead, B]`; the gradient flows through Q only.
        valid: bool, the same shape: to be trained on.
    """

    errors: Tensor
    valid: Tensor


class ReplayedQ(Algorithm):
    """Base of the family; a member says which rows an unroll has."""

    source = "replay"
    evaluates_greedily = True

    def __init__(
        self, config: ServerConfig, spec: EnvironmentSpec, *, burn_in: int, lookahead: int, period: int
    ) -> None:
        """Lays unrolls out.

        Args:
            config: of the run.
            spec: of the environment.
            burn_in: rows before the first transition that is trained on.
            lookahead: transitions behind the last one.
            period: rows between the starts of consecutive unrolls.
        """
        self._q = config.q_learning
        self._learning = config.learning
        self._network = config.network
        self._priority_eta = config.replay.priority_eta
        self._spec = spec
        self._action = action_field(spec.actions[0].name)
        self._burn_in = burn_in
        self._lookahead = lookahead
        self.recorded = {"q_values": FieldSpec((spec.num_actions,), torch.float32)}
        self.num_rows = burn_in + config.learning.unroll_length + lookahead + 1
        self.period = period
        if not 1 <= period < self.num_rows:
            raise UsageError(f"expected a period of 1 to {self.num_rows - 1} rows between unrolls, got {period}")
        self.batch_size = config.learning.batch_size
        self.target_period_updates = config.q_learning.target_period_updates
        num_learners = config.fleet.num_envs - config.fleet.num_greedy_envs
        self._epsilon = epsilon_ladder(num_learners, config.q_learning.epsilon_base, config.q_learning.epsilon_exponent)

    def make_network(self) -> Dueling:
        """See the base class."""
        return Dueling(
            self._spec.observations,
            self._spec.num_actions,
            head_size=self._q.head_size,
            **body_options(self._network),
        )

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Epsilon-greedy, each environment with its own epsilon."""
        outputs, state = network.step(inputs, state)
        q_values = outputs.q_values
        self._epsilon = self._epsilon.to(q_values.device)
        epsilon = self._epsilon[acting.environment_indices % len(self._epsilon)]
        if acting.greedy is not None:
            epsilon = epsilon.masked_fill(acting.greedy, 0.0)
        action = epsilon_greedy(q_values, epsilon, acting.generator)
        return Decision((action,), (action,), {"q_values": q_values}, state)

    def loss(self, network: PolicyNetwork, target: PolicyNetwork | None, batch: TrainBatch) -> Loss:
        """Half the squared errors, summed over an unroll, weighted, and averaged over the batch."""
        assert target is not None
        assert batch.sample is not None
        q_online = self._replayed(network, batch)
        with torch.no_grad():
            q_target = self._replayed(target, batch)
        errors, valid = self._errors(q_online, q_target, batch)
        total = (batch.sample.weights * unroll_losses(errors, valid)).mean()
        errors = errors.detach()
        priorities = unroll_priorities(errors, valid, self._priority_eta)
        recorded = batch.fields["q_values"][self._burn_in :]
        drift = (q_online.detach() - recorded).abs().amax(-1)[:-1]
        metrics = {
            "loss": total.detach(),
            "td_error_mean": masked_reduce(errors.abs(), valid, "mean"),
            "q_value_mean": masked_reduce(q_online.detach().amax(-1)[:-1], valid, "mean"),
            "q_drift_mean": masked_reduce(drift, valid, "mean"),
            "q_drift_max": torch.where(valid, drift, 0.0).max(),
            "priority_mean": priorities.mean(),
            "importance_mean": batch.sample.weights.mean(),
        }
        return Loss(total, metrics, priorities)

    def initial_priorities(self, batch: TrainBatch) -> Tensor:
        """From the Q-values that inference recorded, as if they were those of both networks."""
        q_values = batch.fields["q_values"][self._burn_in :]
        return unroll_priorities(*self._errors(q_values, q_values, batch), self._priority_eta)

    def _replayed(self, network: PolicyNetwork, batch: TrainBatch) -> Tensor:
        """Q-values of all rows after the burn-in, `[T + lookahead + 1, B, A]`; the lookahead's without gradient."""
        inputs, state = batch_inputs(batch), batch.state
        trained = self.num_rows - self._lookahead
        if self._burn_in and state:
            with torch.no_grad():
                _, state = network.unroll(inputs.map(lambda x: x[: self._burn_in]), state)
        outputs, state = network.unroll(inputs.map(lambda x: x[self._burn_in : trained]), state)
        q_values: Tensor = outputs.q_values
        if not self._lookahead:
            return q_values
        with torch.no_grad():
            ahead, _ = network.unroll(inputs.map(lambda x: x[trained:]), state)
        return torch.cat((q_values, ahead.q_values))

    def _errors(self, q_online: Tensor, q_target: Tensor, batch: TrainBatch) -> Errors:
        """Of rows and Q-values after the burn-in."""
        fields, valid = batch.fields, batch.valid[self._burn_in :]
        values = double_q_values(q_online.detach(), q_target)
        rewards = clip_rewards(fields["reward"][self._burn_in + 1 :], self._learning.reward_clipping)
        targets = n_step_targets(
            rewards=rewards,
            discounts=self._learning.discount * fields["discount"][self._burn_in + 1 :],
            values=unrescale(values) if self._q.rescale_values else values,
            valid=valid,
            n=self._q.n_step,
        )
        if self._q.rescale_values:
            targets = rescale(targets)
        action = torch.where(valid, fields[self._action][self._burn_in : -1], 0)
        q_taken = values_of(torch.where(valid.unsqueeze(-1), q_online[:-1], 0.0), action)
        trained = torch.arange(len(valid), device=valid.device)[:, None] < len(valid) - self._lookahead
        return Errors(targets - q_taken, valid & trained)
