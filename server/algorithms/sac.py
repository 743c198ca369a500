"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1801.01290 and 1812.05905; with discrete actions arXiv 1910.07207).

    y           r + d ( min_i Q'_i(s', a') - alpha log pi(a'|s') ),   a' ~ pi(.|s')
    critics     1/2 (Q_i(s, a) - y)^2
    actor       alpha log pi(a|s) - min_i Q_i(s, a),   a = tanh(m + sigma noise): the gradient flows through a
    alpha       log alpha (H - H*)

An update is a step of each, in this order, by optimisers of their own; then the target critics move by tau.

Transitions are drawn from a replay, evenly, whatever unroll they came in. With a memory (`--core`) whole unrolls are
drawn: the stored agent state enters a burn-in, as in R2D2, and the critics alone train the body. Entropy is that
of the action in [-1, 1]^D, in nats, whatever the bounds of the environment.

Shapes: T transitions that are trained on (1 where transitions are drawn), R rows from the first of them on, B of a
train batch, N critics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.common.errors import SpecError, UsageError
from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.interface import (
    Acting,
    Algorithm,
    Decision,
    Group,
    Step,
    Target,
    batch_inputs,
)
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import ACTION_MASK, action_field
from seedbed.server.losses.masking import masked_reduce, only_valid, weight_of
from seedbed.server.losses.rewards import clip_rewards
from seedbed.server.losses.soft import actor_loss, critic_loss, soft_n_step_targets, temperature_loss
from seedbed.server.networks.array_kinds import image_of
from seedbed.server.networks.body import Body
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.networks.soft import BoxCritics, Critics, Policy, SoftNetwork, SquashedPolicy, TableCritics, Valuing
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import UniformReplayConfig

CRITIC, ACTOR, ALPHA = "critic", "actor", "alpha"

MOST_JOINT_ACTIONS = 1024
"""Combinations of discrete actions: the critics have a number for each."""

_BURN_IN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SACOptions:
    """SAC"""

    n_step: int = option(1, "n, steps of a return before it bootstraps", minimum=1, fixed=True)
    tau: float = option(0.005, "share by which target critics move towards the learnt ones after every update")
    random_steps: int = option(
        1000, "agent steps of the run that are taken at random before the policy acts", minimum=0
    )
    hidden_size: int = option(256, "width of the hidden layers of policy and critics", minimum=1, fixed=True)
    hidden_layers: int = option(2, "hidden layers of policy and critics, behind the torso", minimum=0, fixed=True)
    critics: int = option(2, "N, critics; targets are made with the least", minimum=1, fixed=True)
    layer_norm: bool = option(False, "normalise hidden layers of critics: for several updates a step", fixed=True)
    alpha: float = option(1.0, "temperature at the start, in units of reward per nat")
    learn_alpha: bool = option(
        True, "keep the policy's entropy at its target by the temperature; else it stays", fixed=True
    )
    target_entropy: float | None = option(
        None,
        "target entropy in nats, of the action in [-1, 1]^D (default: -D with boxes; with discrete actions "
        "--entropy-share of the largest possible)",
    )
    entropy_share: float = option(0.89, "target entropy of discrete actions as a share of that of random play")
    burn_in: int | None = option(
        None,
        f"with a memory: rows of an unroll that only refresh the agent state (default: {_BURN_IN})",
        minimum=0,
        fixed=True,
    )
    replay: UniformReplayConfig = field(default_factory=UniformReplayConfig)

    def __post_init__(self) -> None:
        if not 0 < self.tau <= 1 or not self.alpha > 0:
            raise UsageError(f"expected --tau in (0, 1] and --alpha above 0, got {self.tau} and {self.alpha}")


class SAC(Algorithm):
    """The algorithm behind `--algorithm sac`."""

    Options = SACOptions
    regime = "replay"
    evaluates_greedily = True

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """See the base class.

        Raises:
            SpecError: boxes and discrete actions together, or too many combinations of these.
            UsageError: a burn-in without a memory.
        """
        super().__init__(config, spec)
        _check_actions(config.algorithm, spec)
        self._sac: SACOptions = config.algorithm_options
        self._boxes = spec.actions[0].kind == "box"
        self._space = ActionSpace(spec.actions, squash=True)
        self._actions = [action_field(action.name) for action in spec.actions]
        remembers = config.network.core != "none"
        burn_in = self._sac.burn_in
        if burn_in and not remembers:
            raise UsageError(f"expected a memory with --burn-in {burn_in}, got --core none: try --core lstm")
        first = (_BURN_IN if burn_in is None else burn_in) if remembers else 0
        self.draws = "unrolls" if remembers else "transitions"
        self.period = config.learning.unroll_length
        self.num_rows = first + config.learning.unroll_length + self._sac.n_step
        self.trained_rows = range(first, first + config.learning.unroll_length)
        self.target = Target(tau=self._sac.tau)
        self.recorded = {}

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Boxes alone, seen by numbers: before all others. What else it can learn, it learns where it is named."""
        if any(action.kind != "box" for action in spec.actions):
            return None
        return -1 if any(image_of(array) is not None for array in spec.shown) else 20

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """The paper's (appendix D): networks on the numbers themselves, Adam at 3e-4, gradients never clipped."""
        images = any(image_of(array) is not None for array in spec.shown)
        return {
            "fleet.num_envs": 4,
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

    def make_learnt(self) -> SoftNetwork:
        """See the base class."""
        options, shown = self._sac, self._spec.shown
        hidden = [options.hidden_size] * options.hidden_layers
        policy: Policy
        critics: Critics
        if self._boxes:
            policy = SquashedPolicy(shown, self._space, self._network, hidden=hidden)
            critics = BoxCritics(
                policy.body.output_size,
                self._space,
                count=options.critics,
                hidden=hidden,
                layer_norm=options.layer_norm,
            )
        else:
            policy = Policy(shown, self._space, self._network, hidden=hidden, num_outputs=self._space.param_size)
            critics = TableCritics(
                policy.body.output_size,
                self._space,
                self._spec.actions,
                count=options.critics,
                hidden=hidden,
                layer_norm=options.layer_norm,
            )
        return SoftNetwork(policy, critics, options.alpha, self.observation_moments())

    def acting(self, learnt: nn.Module) -> PolicyNetwork:
        """The policy: critics are never asked how to act."""
        return _soft(learnt).policy

    def targeted(self, learnt: nn.Module) -> nn.Module:
        """The critics and the body they read; there is no target policy."""
        return Valuing(_soft(learnt).policy.body, _soft(learnt).critics)

    def groups(self, learnt: nn.Module) -> Mapping[str, Group]:
        """Three; the critics train the body."""
        network = _soft(learnt)
        groups = {
            CRITIC: Group((*network.policy.body.parameters(), *network.critics.parameters())),
            ACTOR: Group(network.policy.own_parameters()),
        }
        return {**groups, ALPHA: Group((network.log_alpha,))} if self._sac.learn_alpha else groups

    def plan(self, version: int) -> Sequence[str]:
        """See the base class."""
        return (CRITIC, ACTOR, ALPHA) if self._sac.learn_alpha else (CRITIC, ACTOR)

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Samples; at random at the start of a run; greedy rows take the mode.

        What is recorded as the action is what was sent: that is what critics read.
        """
        parameters, state = network.step(inputs, state)
        policy = self._space.distribution(parameters, inputs.mask)
        if acting.agent_steps < self._sac.random_steps:
            sent = self._at_random(parameters, inputs.mask, acting.generator)
        else:
            sent = self._space.sent(policy.sample(acting.generator))
        if acting.greedy is not None:
            pairs = zip(self._space.sent(policy.mode()), sent, strict=True)
            sent = tuple(
                torch.where(acting.greedy.reshape(-1, *[1] * (action.dim() - 1)), best, action)
                for best, action in pairs
            )
        shown = {"policy": policy.shown()} if acting.watched else None
        return Decision(sent, sent, {}, state, shown)

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """Critics, actor, temperature; each uses the temperature from before the update."""
        network = _soft(learnt)
        assert isinstance(target, Valuing)
        alpha = network.log_alpha.detach().exp()
        rows = batch.trained_rows
        trained, valid = len(rows), batch.valid[rows.start : rows.stop]
        features = _replayed(network.policy.body, batch)
        with torch.no_grad():
            ahead = _replayed(target.body, batch)[1:]
            targets = self._targets(network, target, features[1:], ahead, batch, alpha)[:trained]
        actions = tuple(only_valid(batch.fields[name][rows.start : rows.stop], valid) for name in self._actions)
        q_values = network.critics.taken(features[:trained], actions)
        weight = weight_of(valid, "mean")
        errors = critic_loss(q_values=q_values, targets=targets, valid=valid)
        found = q_values.detach()
        yield Step(
            errors,
            CRITIC,
            weight,
            {
                "loss": errors.detach(),
                "q_value_mean": masked_reduce(found.mean(0), valid, "mean"),
                "td_error_mean": masked_reduce((found - targets).abs().mean(0), valid, "mean"),
            },
        )
        seen, mask = features[:trained].detach(), self._mask(batch, rows.start, rows.stop)
        outputs = only_valid(network.policy.outputs(seen), valid)
        worth = network.critics.soft_value(only_valid(seen, valid), outputs, mask, alpha)
        loss = actor_loss(values=worth.value, valid=valid)
        entropy = worth.entropy.detach()
        metrics = {
            "actor_loss": loss.detach(),
            "entropy": masked_reduce(entropy, valid, "mean"),
            "alpha": alpha,
        }
        yield Step(loss, ACTOR, weight, metrics)
        if self._sac.learn_alpha:
            aim = self._target_entropy(outputs, mask)
            loss = temperature_loss(log_alpha=network.log_alpha, entropies=entropy, targets=aim, valid=valid)
            yield Step(loss, ALPHA, weight, {"target_entropy": torch.as_tensor(aim, dtype=torch.float32).mean()})

    def initial_priorities(self, batch: TrainBatch) -> Tensor:
        """Unrolls are drawn evenly, but those without anything to be trained on."""
        return batch.valid[batch.trained_rows.start : batch.trained_rows.stop].any(0).float()

    def _targets(
        self, network: SoftNetwork, target: Valuing, features: Tensor, ahead: Tensor, batch: TrainBatch, alpha: Tensor
    ) -> Tensor:
        """y of the transitions from the first that is trained on to the last, `[R - 1, B]`.

        Args:
            network: what is being learnt.
            target: critics that value.
            features, ahead: of rows 1 .. R - 1, as the learnt body sees them, and the target's.
            batch: drawn.
            alpha: scalar.
        """
        start = batch.trained_rows.start
        outputs = network.policy.outputs(features)
        worth = target.critics.soft_value(ahead, outputs, self._mask(batch, start + 1, None), alpha)
        return soft_n_step_targets(
            rewards=clip_rewards(batch.fields["reward"][start + 1 :], self._learning.reward_clipping),
            discounts=self._learning.discount * batch.fields["discount"][start + 1 :],
            values=worth.value,
            bonuses=alpha * worth.entropy,
            valid=batch.valid[start:],
            n=self._sac.n_step,
        )

    def _target_entropy(self, outputs: Tensor, mask: Tensor | None) -> Tensor | float:
        """H* in nats: a number, or `[T, B]` where a mask leaves more or less to choose from."""
        if self._sac.target_entropy is not None:
            return self._sac.target_entropy
        if self._boxes:
            return -float(self._space.encoded_size)
        free = torch.zeros_like(outputs) if mask is not None else outputs.new_zeros(outputs.shape[-1])
        return self._sac.entropy_share * self._space.distribution(free, mask).entropy()

    def _at_random(self, parameters: Tensor, mask: Tensor | None, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Evenly from all that is allowed."""
        if not self._boxes:
            return self._space.distribution(torch.zeros_like(parameters), mask).sample(generator)
        shapes = [(len(parameters), *action.shape) for action in self._spec.actions]
        return tuple(torch.rand(shape, generator=generator, device=parameters.device) * 2.0 - 1.0 for shape in shapes)

    def _mask(self, batch: TrainBatch, start: int, stop: int | None) -> Tensor | None:
        return batch.fields[ACTION_MASK][start:stop] if ACTION_MASK in batch.fields else None


def _soft(learnt: nn.Module) -> SoftNetwork:
    assert isinstance(learnt, SoftNetwork)
    return learnt


def _replayed(body: Body, batch: TrainBatch) -> Tensor:
    """Features of the rows from the first that is trained on, `[R, B, F]`; a burn-in is run through before."""
    start, inputs, state = batch.trained_rows.start, batch_inputs(batch), batch.state
    if start:
        with torch.no_grad():
            _, state = body.unroll(inputs.map(lambda x: x[:start]), state)
        inputs = inputs.map(lambda x: x[start:])
    return body.unroll(inputs, state)[0]


def _check_actions(algorithm: str, spec: EnvironmentSpec) -> None:
    """Raises SpecError for actions that it cannot learn."""
    boxes = [action.kind == "box" for action in spec.actions]
    came = ", ".join(f"{action.name!r} {action}" for action in spec.actions)
    if any(boxes) and not all(boxes):
        raise SpecError(
            f"{spec.environment}: --algorithm {algorithm} expects boxes alone or discrete actions alone, got {came}: "
            "actor-critics without a replay take both together, --algorithm ppo"
        )
    joint = math.prod(count for action in spec.actions for count in action.num_values)
    if not any(boxes) and joint > MOST_JOINT_ACTIONS:
        raise SpecError(
            f"{spec.environment}: --algorithm {algorithm} expects at most {MOST_JOINT_ACTIONS} combinations of "
            f"discrete actions, got {joint}: {came}"
        )
