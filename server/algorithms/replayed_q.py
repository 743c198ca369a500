"""Q-learning from a replay: R2D2 and Ape-X, double, dueling and n-step, on unrolls drawn by priority.

R2D2 (Kapturowski et al. 2019, OpenReview r1lyTjAqYX): sequences of T transitions with a burn-in before them begin
every `period` rows of a lease and cross the ends of episodes, with masks. The last n - 1 returns of a sequence are
shorter than n. The state that is stored is the one that entered the *first row of the burn-in*. (SEED RL stores the one
that enters the row behind the burn-in and feeds it to the first.)

Ape-X DQN (Horgan et al. 2018, arXiv 1803.00933): a draw is a short run of T transitions with n - 1 more behind it, so
that all T have their full n-step return. Runs follow one another without overlap of what is trained on. T = 1 is the
paper's transition, at the price of storing n + K frames for each: a run of T stores (T + n + K - 1) / T frames per
transition, and its priority is that of its errors together (`--priority-eta`).

An unroll of this family has three parts:

    | burn-in | trained on | lookahead |        L = burn_in + T + lookahead + 1 rows

The burn-in refreshes the agent state that was stored before row 0, without gradient; the lookahead is only there for
the returns of the transitions before it. Inference records its Q-values: from them new unrolls get their priority.

Shapes: N inference batch, T transitions, B unrolls, A actions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.batch_reading import batch_inputs, mask_of
from seedbed.server.algorithms.best import Best, best_of_values
from seedbed.server.algorithms.exploration import epsilon_greedy, epsilon_ladder, shown_of
from seedbed.server.algorithms.interface import EVERYTHING, Algorithm
from seedbed.server.algorithms.published import dqn_torso
from seedbed.server.algorithms.requirements import expect_one_discrete_action, has_one_discrete_action
from seedbed.server.algorithms.update_steps import Step, Target
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import FieldSpec, action_field
from seedbed.server.losses.masking import masked_reduce, only_valid
from seedbed.server.losses.q_learning import only_allowed, values_of
from seedbed.server.losses.rewards import clip_rewards
from seedbed.server.losses.value_learning import double_q_values, n_step_targets, unroll_losses, unroll_priorities
from seedbed.server.losses.value_rescaling import rescale, unrescale
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.dueling import Dueling
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import ReplayConfig


class Errors(NamedTuple):
    """Temporal-difference errors of an unroll's transitions after the burn-in.

    Attributes:
        errors: target less Q(s_t, a_t), `[T + lookahead, B]`; the gradient flows through Q only.
        valid: bool, the same shape: to be trained on.
    """

    errors: Tensor
    valid: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedQOptions:
    """Q-learning from a replay"""

    n_step: int = option(5, "n, steps of a return before it bootstraps", minimum=1, fixed=True)
    target_period_updates: int = option(2500, "updates between two copies to the target network", minimum=1)
    rescale_values: bool = option(
        True, "learn h(return) instead of the return: a square root for large ones", fixed=True
    )
    head_size: int = option(512, "width of the hidden layer of value and advantage", minimum=1, fixed=True)
    epsilon_base: float = option(
        0.4, "epsilon of the environment that explores most: base ** (1 + exponent * i/(N-1))", minimum=0, maximum=1
    )
    epsilon_exponent: float = option(7.0, "how much less the last environment explores", minimum=0)
    replay: ReplayConfig = field(default_factory=ReplayConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class R2D2Options(ReplayedQOptions):
    """R2D2"""

    burn_in: int = option(40, "rows of a sequence that only refresh the agent state", minimum=0, fixed=True)
    period: int = option(
        40, "rows between the starts of consecutive sequences of an environment", minimum=1, fixed=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApeXOptions(ReplayedQOptions):
    """Ape-X"""

    n_step: int = option(3, "n, steps of a return before it bootstraps", minimum=1, fixed=True)
    rescale_values: bool = option(
        False, "learn h(return) instead of the return: a square root for large ones", fixed=True
    )
    replay: ReplayConfig = field(
        default_factory=lambda: ReplayConfig(
            replay_capacity=50_000, replay_min_size=12_500, priority_exponent=0.6, importance_exponent=0.4
        )
    )


class ReplayedQ(Algorithm):
    """Base of the family; a member says which rows an unroll has."""

    serves = True
    regime = "replay"
    shows = "q_values"
    evaluates_greedily = True

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Any with one discrete action."""
        return 0 if has_one_discrete_action(spec) else None

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
        super().__init__(config, spec)
        expect_one_discrete_action(spec, config.algorithm)
        self._q: ReplayedQOptions = config.algorithm_options
        self._priority_eta = self._q.replay.priority_eta
        self._action = action_field(spec.actions[0].name)
        self._burn_in = burn_in
        self._lookahead = lookahead
        self.recorded = {"q_values": FieldSpec((spec.num_actions,), torch.float32)}
        self.num_rows = burn_in + config.learning.unroll_length + lookahead + 1
        self.period = period
        if not 1 <= period < self.num_rows:
            raise UsageError(f"expected a period of 1 to {self.num_rows - 1} rows between unrolls, got {period}")
        self.trained_rows = range(burn_in, burn_in + config.learning.unroll_length)
        self.target = Target(period=self._q.target_period_updates)
        num_learners = config.fleet.num_envs - config.fleet.num_greedy
        self._epsilon = epsilon_ladder(num_learners, self._q.epsilon_base, self._q.epsilon_exponent)

    def make_learnt(self) -> nn.Module:
        """See the base class."""
        space = ActionSpace(self._spec.actions)
        return self.with_statistics(Dueling(self._spec.shown, space, self._network, head_size=self._q.head_size))

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Epsilon-greedy, each environment with its own epsilon."""
        outputs, state = network.step(inputs, state)
        q_values = outputs.q_values
        self._epsilon = self._epsilon.to(q_values.device)
        epsilon = self._epsilon[acting.environment_indices % len(self._epsilon)]
        if acting.greedy is not None:
            epsilon = epsilon.masked_fill(acting.greedy, 0.0)
        action = epsilon_greedy(q_values, epsilon, acting.generator, inputs.mask)
        return Decision((action,), (action,), {"q_values": q_values}, state, shown_of(q_values, inputs.mask, acting))

    def best(self, network: PolicyNetwork, inputs: Inputs, state: AgentState) -> Best:
        """The action of highest value."""
        outputs, state = network.step(inputs, state)
        return best_of_values(outputs.q_values, inputs.mask, state)

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """One, on half the squared errors, summed over an unroll, weighted, and averaged over the batch."""
        assert target is not None
        assert batch.sample is not None
        q_online = self._replayed(self.acting(learnt), batch)
        with torch.no_grad():
            q_target = self._replayed(self.acting(target), batch)
        errors, valid = self._errors(q_online, q_target, batch)
        total = (batch.sample.weights * unroll_losses(errors, valid)).mean()
        errors = errors.detach()
        priorities = unroll_priorities(errors, valid, self._priority_eta)
        mask = mask_of(batch, slice(self._burn_in, None))
        recorded = batch.fields["q_values"][self._burn_in :]
        drift = only_allowed((q_online.detach() - recorded).abs(), mask).amax(-1)[:-1]
        best = only_allowed(q_online.detach(), mask).amax(-1)[:-1]
        metrics = {
            "loss": total.detach(),
            "td_error_mean": masked_reduce(errors.abs(), valid, "mean"),
            "q_value_mean": masked_reduce(best, valid, "mean"),
            "q_drift_mean": masked_reduce(drift, valid, "mean"),
            "q_drift_max": torch.where(valid, drift, 0.0).max(),
            "priority_mean": priorities.mean(),
            "importance_mean": batch.sample.weights.mean(),
        }
        weight = torch.full((), batch.valid.shape[1], device=batch.valid.device)
        yield Step(total, EVERYTHING, weight, metrics, priorities)

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
        values = double_q_values(q_online.detach(), q_target, mask_of(batch, slice(self._burn_in, None)))
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
        action = only_valid(fields[self._action][self._burn_in : -1], valid)
        q_taken = values_of(only_valid(q_online[:-1], valid), action)
        trained = torch.arange(len(valid), device=valid.device)[:, None] < len(valid) - self._lookahead
        return Errors(targets - q_taken, valid & trained)


class R2D2(ReplayedQ):
    """The algorithm behind `--algorithm r2d2`."""

    Options = R2D2Options

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """Table 2, but for the replay: 100,000 sequences of 84x84 frames are 85 GB. Clipping as in SEED RL."""
        return {
            "learning.unroll_length": 80,
            "learning.batch_size": 64,
            "learning.discount": 0.997,
            "learning.reward_clipping": "none",
            **dqn_torso(spec),
            "network.core": "lstm",
            "network.core_size": 512,
            "optimiser.learning_rate": 1e-4,
            "optimiser.final_learning_rate_share": 1.0,
            "optimiser.epsilon": 1e-3,
            "fleet.num_greedy_envs": None,
        }

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """See the base class."""
        options: R2D2Options = config.algorithm_options
        super().__init__(config, spec, burn_in=options.burn_in, lookahead=0, period=options.period)


class ApeX(ReplayedQ):
    """The algorithm behind `--algorithm apex`. No agent state is refreshed: with a recurrent network take R2D2."""

    Options = ApeXOptions

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """Section 4.1, in runs of 4 transitions; the optimiser is the paper's centred RMSProp."""
        return {
            "learning.unroll_length": 4,
            "learning.batch_size": 128,
            **dqn_torso(spec),
            "optimiser.optimiser": "rmsprop",
            "optimiser.centred": True,
            "optimiser.decay": 0.95,
            "optimiser.learning_rate": 6.25e-5,
            "optimiser.final_learning_rate_share": 1.0,
            "optimiser.epsilon": 1.5e-7,
            "fleet.num_greedy_envs": None,
        }

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """See the base class.

        Raises:
            UsageError: the network is recurrent.
        """
        if config.network.core != "none":
            raise UsageError(f"expected --core none with --algorithm apex, got {config.network.core}: take r2d2")
        options: ApeXOptions = config.algorithm_options
        super().__init__(config, spec, burn_in=0, lookahead=options.n_step - 1, period=config.learning.unroll_length)
