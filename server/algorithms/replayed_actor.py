"""Actors that learn from a replay: what SAC and its deterministic sibling share.

Transitions are drawn, evenly, whatever unroll they came in. With a memory (`--core`) whole unrolls are drawn: the
stored agent state enters a burn-in, as in R2D2, and the critics alone train the body.

Shapes: T transitions that are trained on (1 where transitions are drawn), R rows from the first of them on, B of a
train batch, N critics.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.algorithms.best import Best, best_of_policy
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.requirements import other_actions
from seedbed.server.algorithms.update_steps import Step, Target
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import action_field
from seedbed.server.losses.masking import masked_reduce, only_valid, rows_where, weight_of
from seedbed.server.losses.rewards import clip_rewards
from seedbed.server.losses.soft import critic_loss, soft_n_step_targets
from seedbed.server.networks.array_kinds import shows_images
from seedbed.server.networks.body import Body
from seedbed.server.networks.distributions import ActionDistribution, ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.networks.soft import BoxCritics, Critics
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import UniformReplayConfig

CRITIC, ACTOR = "critic", "actor"

_BURN_IN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedActorOptions:
    """actors that learn from a replay"""

    n_step: int = option(1, "n, steps of a return before it bootstraps", minimum=1, fixed=True)
    tau: float = option(0.005, "share by which target networks move towards the learnt ones after every update")
    random_steps: int = option(
        1000, "agent steps of the run that are taken at random before the policy acts", minimum=0
    )
    hidden_size: int = option(256, "width of the hidden layers of policy and critics", minimum=1, fixed=True)
    hidden_layers: int = option(2, "hidden layers of policy and critics, behind the torso", minimum=0, fixed=True)
    critics: int = option(2, "N, critics; targets are made with the least", minimum=1, fixed=True)
    layer_norm: bool = option(False, "normalise hidden layers of critics: for several updates a step", fixed=True)
    burn_in: int | None = option(
        None,
        f"with a memory: rows of an unroll that only refresh the agent state (default: {_BURN_IN})",
        minimum=0,
        fixed=True,
    )
    replay: UniformReplayConfig = field(default_factory=UniformReplayConfig)

    def __post_init__(self) -> None:
        if not 0 < self.tau <= 1:
            raise UsageError(f"expected --tau in (0, 1], got {self.tau}")


class ReplayedActor(Algorithm):
    """Base of the family."""

    regime = "replay"
    evaluates_greedily = True

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """Lays unrolls out.

        Raises:
            UsageError: a burn-in without a memory.
        """
        super().__init__(config, spec)
        self._actor: ReplayedActorOptions = config.algorithm_options
        self._boxes = all(action.kind == "box" for action in spec.actions)
        self._space = ActionSpace(spec.actions, squash=True)
        self._actions = [action_field(action.name) for action in spec.actions]
        remembers = config.network.core != "none"
        burn_in = self._actor.burn_in
        if burn_in and not remembers:
            raise UsageError(f"expected a memory with --burn-in {burn_in}, got --core none: try --core lstm")
        first = (_BURN_IN if burn_in is None else burn_in) if remembers else 0
        self.draws = "unrolls" if remembers else "transitions"
        self.period = config.learning.unroll_length
        self.num_rows = first + config.learning.unroll_length + self._actor.n_step
        self.trained_rows = range(first, first + config.learning.unroll_length)
        self.target = Target(tau=self._actor.tau)
        self.recorded = {}

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """Of SAC's paper (appendix D): networks on the numbers themselves, Adam at 3e-4, gradients never clipped."""
        images = shows_images(spec.shown)
        return {
            "fleet.num_envs": 8,
            "learning.unroll_length": 8,
            "learning.batch_size": 256,
            "learning.discount": 0.99,
            "network.torso": "auto" if images else "flat",
            "optimiser.optimiser": "adam",
            "optimiser.learning_rate": 3e-4,
            "optimiser.final_learning_rate_share": 1.0,
            "optimiser.epsilon": 1e-8,
            "optimiser.clip_norm": math.inf,
            **({"algorithm_options.replay.replay_capacity": 100_000} if images else {}),
        }

    @classmethod
    def defaults_with_memory(cls) -> Mapping[str, Any]:
        """Whole unrolls are drawn, so as many transitions as without are few of them, long enough for their burn-in."""
        return {"learning.unroll_length": 20, "learning.batch_size": 16}

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Explores; at random at the start of a run; greedy rows take the mode.

        What is recorded as the action is what was sent: that is what critics read.
        """
        parameters, state = network.step(inputs, state)
        policy = self._space.distribution(parameters, inputs.mask)
        if acting.agent_steps < self._actor.random_steps:
            sent = self._at_random(parameters, inputs.mask, acting.generator)
        else:
            sent = self.explore(policy, acting.generator)
        if acting.greedy is not None:
            pairs = zip(self._space.sent(policy.mode()), sent, strict=True)
            sent = tuple(rows_where(acting.greedy, best, action) for best, action in pairs)
        shown = {"policy": policy.shown()} if acting.watched else None
        return Decision(sent, sent, {}, state, shown)

    def best(self, network: PolicyNetwork, inputs: Inputs, state: AgentState) -> Best:
        """The mode."""
        parameters, state = network.step(inputs, state)
        return best_of_policy(self._space, self._space.distribution(parameters, inputs.mask), state)

    @abstractmethod
    def explore(self, policy: ActionDistribution, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Actions as they are sent."""

    def initial_priorities(self, batch: TrainBatch) -> Tensor:
        """Unrolls are drawn evenly, but those without anything to be trained on."""
        return batch.valid[batch.trained_rows.start : batch.trained_rows.stop].any(0).float()

    def box_critics(self, num_features: int) -> BoxCritics:
        """Fresh ones."""
        options = self._actor
        return BoxCritics(
            num_features, self._space, count=options.critics, hidden=self.hidden, layer_norm=options.layer_norm
        )

    @property
    def hidden(self) -> Sequence[int]:
        """Widths of the hidden layers of policy and critics."""
        return [self._actor.hidden_size] * self._actor.hidden_layers

    def returns(self, batch: TrainBatch, values: Tensor, bonuses: Tensor) -> Tensor:
        """What transitions that are trained on are worth, `[T, B]`, from values of rows 1 .. R - 1, `[R - 1, B]`."""
        start = batch.trained_rows.start
        return soft_n_step_targets(
            rewards=clip_rewards(batch.fields["reward"][start + 1 :], self._learning.reward_clipping),
            discounts=self._learning.discount * batch.fields["discount"][start + 1 :],
            values=values,
            bonuses=bonuses,
            valid=batch.valid[start:],
            n=self._actor.n_step,
        )[: len(batch.trained_rows)]

    def critic_step(self, critics: Critics, features: Tensor, targets: Tensor, batch: TrainBatch) -> Step:
        """The step of the critics: values of what was done, `features` `[T, B, F]`, towards targets `[T, B]`."""
        rows, valid = batch.trained_rows, trained_valid(batch)
        actions = tuple(only_valid(batch.fields[name][rows.start : rows.stop], valid) for name in self._actions)
        q_values = critics.taken(features, actions)
        loss = critic_loss(q_values=q_values, targets=targets, valid=valid)
        found = q_values.detach()
        metrics = {
            "loss": loss.detach(),
            "q_value_mean": masked_reduce(found.mean(0), valid, "mean"),
            "td_error_mean": masked_reduce((found - targets).abs().mean(0), valid, "mean"),
        }
        return Step(loss, CRITIC, weight_of(valid, "mean"), metrics)

    def _at_random(self, parameters: Tensor, mask: Tensor | None, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Evenly from all that is allowed."""
        if not self._boxes:
            return self._space.distribution(torch.zeros_like(parameters), mask).sample(generator)
        shapes = [(len(parameters), *action.shape) for action in self._spec.actions]
        return tuple(torch.rand(shape, generator=generator, device=parameters.device) * 2.0 - 1.0 for shape in shapes)


def trained_valid(batch: TrainBatch) -> Tensor:
    """Which transitions are trained on, bool `[T, B]`."""
    return batch.valid[batch.trained_rows.start : batch.trained_rows.stop]


def replayed(body: Body, batch: TrainBatch) -> Tensor:
    """Features of the rows from the first that is trained on, `[R, B, F]`; a burn-in is run through before."""
    start, inputs, state = batch.trained_rows.start, batch_inputs(batch), batch.state
    if start:
        with torch.no_grad():
            _, state = body.unroll(inputs.map(lambda x: x[:start]), state)
        inputs = inputs.map(lambda x: x[start:])
    return body.unroll(inputs, state)[0]


def expect_boxes(algorithm: str, spec: EnvironmentSpec, or_else: str = "") -> None:
    """Raises SpecError for an environment with other actions than boxes; `or_else`: what it takes beside."""
    if any(action.kind != "box" for action in spec.actions):
        raise other_actions(spec, algorithm, f"boxes alone{or_else}")
