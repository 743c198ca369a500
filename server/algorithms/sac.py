"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1801.01290 and 1812.05905; with discrete actions arXiv 1910.07207).

    y           r + d ( min_i Q'_i(s', a') - alpha log pi(a'|s') ),   a' ~ pi(.|s')
    critics     1/2 (Q_i(s, a) - y)^2
    actor       alpha log pi(a|s) - min_i Q_i(s, a),   a = tanh(m + sigma noise): the gradient flows through a
    alpha       log alpha (H - H*)

An update is a step of each, in this order, by optimisers of their own; then the target critics move by tau.

Entropy is that of the action in [-1, 1]^D, in nats, whatever the bounds of the environment.

Shapes: T transitions that are trained on (1 where transitions are drawn), R rows from the first of them on, B of a
train batch, N critics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.batch_reading import mask_of
from seedbed.server.algorithms.replayed_actor import (
    ACTOR,
    CRITIC,
    ReplayedActor,
    ReplayedActorOptions,
    expect_boxes,
    replayed,
    trained_valid,
)
from seedbed.server.algorithms.requirements import other_actions
from seedbed.server.algorithms.update_steps import Group, Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.masking import masked_reduce, only_valid, weight_of
from seedbed.server.losses.soft import actor_loss, temperature_loss
from seedbed.server.networks.array_kinds import shows_images
from seedbed.server.networks.distributions import ActionDistribution
from seedbed.server.networks.interface import PolicyNetwork
from seedbed.server.networks.soft import Critics, Policy, SoftNetwork, SquashedPolicy, TableCritics, Valuing
from seedbed.server.options.config import ServerConfig

ALPHA = "alpha"

MOST_JOINT_ACTIONS = 1024
"""Combinations of discrete actions: the critics have a number for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SACOptions(ReplayedActorOptions):
    """SAC"""

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

    def __post_init__(self) -> None:
        ReplayedActorOptions.__post_init__(self)
        if not self.alpha > 0:
            raise UsageError(f"expected --alpha above 0, got {self.alpha}")


class SAC(ReplayedActor):
    """The algorithm behind `--algorithm sac`."""

    Options = SACOptions

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """See the base class.

        Raises:
            SpecError: boxes and discrete actions together, or too many combinations of these.
        """
        super().__init__(config, spec)
        _check_actions(config.algorithm, spec)
        self._sac: SACOptions = config.algorithm_options

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Boxes alone, seen by numbers: before all others. What else it can learn, it learns where it is named."""
        if any(action.kind != "box" for action in spec.actions):
            return None
        return -1 if shows_images(spec.shown) else 20

    def make_learnt(self) -> SoftNetwork:
        """See the base class."""
        options, shown = self._sac, self._spec.shown
        policy: Policy
        critics: Critics
        if self._boxes:
            policy = SquashedPolicy(shown, self._space, self._network, hidden=self.hidden)
            critics = self.box_critics(policy.body.output_size)
        else:
            policy = Policy(shown, self._space, self._network, hidden=self.hidden, num_outputs=self._space.param_size)
            critics = TableCritics(
                policy.body.output_size,
                self._space,
                self._spec.actions,
                count=options.critics,
                hidden=self.hidden,
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

    def explore(self, policy: ActionDistribution, generator: torch.Generator) -> tuple[Tensor, ...]:
        """A sample of the policy."""
        return self._space.sent(policy.sample(generator))

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """Critics, actor, temperature; each uses the temperature from before the update."""
        network = _soft(learnt)
        assert isinstance(target, Valuing)
        alpha, rows, valid = network.log_alpha.detach().exp(), batch.trained_rows, trained_valid(batch)
        features = replayed(network.policy.body, batch)
        with torch.no_grad():
            ahead = replayed(target.body, batch)[1:]
            targets = self._targets(network, target, features[1:], ahead, batch, alpha)
        features = features[: len(rows)]
        yield self.critic_step(network.critics, features, targets, batch)
        seen, mask = only_valid(features.detach(), valid), mask_of(batch, slice(rows.start, rows.stop))
        outputs = network.policy.outputs(seen)
        worth = network.critics.soft_value(seen, outputs, mask, alpha)
        loss, entropy = actor_loss(values=worth.value, valid=valid), worth.entropy.detach()
        metrics = {
            "actor_loss": loss.detach(),
            "entropy": masked_reduce(entropy, valid, "mean"),
            "alpha": alpha,
        }
        weight = weight_of(valid, "mean")
        yield Step(loss, ACTOR, weight, metrics)
        if self._sac.learn_alpha:
            aim = self._target_entropy(outputs, mask)
            loss = temperature_loss(log_alpha=network.log_alpha, entropies=entropy, targets=aim, valid=valid)
            yield Step(loss, ALPHA, weight, {"target_entropy": torch.as_tensor(aim, dtype=torch.float32).mean()})

    def _targets(
        self, network: SoftNetwork, target: Valuing, features: Tensor, ahead: Tensor, batch: TrainBatch, alpha: Tensor
    ) -> Tensor:
        """y of the transitions that are trained on, `[T, B]`.

        Args:
            network: what is being learnt.
            target: critics that value.
            features, ahead: of rows 1 .. R - 1, as the learnt body sees them, and the target's.
            batch: drawn.
            alpha: scalar.
        """
        mask = mask_of(batch, slice(batch.trained_rows.start + 1, None))
        worth = target.critics.soft_value(ahead, network.policy.outputs(features), mask, alpha)
        return self.returns(batch, worth.value, alpha * worth.entropy)

    def _target_entropy(self, outputs: Tensor, mask: Tensor | None) -> Tensor | float:
        """H* in nats: a number, or `[T, B]` where a mask leaves more or less to choose from."""
        if self._sac.target_entropy is not None:
            return self._sac.target_entropy
        if self._boxes:
            return -float(self._space.encoded_size)
        free = torch.zeros_like(outputs) if mask is not None else outputs.new_zeros(outputs.shape[-1])
        return self._sac.entropy_share * self._space.distribution(free, mask).entropy()


def _soft(learnt: nn.Module) -> SoftNetwork:
    assert isinstance(learnt, SoftNetwork)
    return learnt


def _check_actions(algorithm: str, spec: EnvironmentSpec) -> None:
    """Raises SpecError for actions that it cannot learn."""
    if any(action.kind == "box" for action in spec.actions):
        expect_boxes(algorithm, spec, " or discrete actions alone")
        return
    joint = math.prod(count for action in spec.actions for count in action.num_values)
    if joint > MOST_JOINT_ACTIONS:
        expected = f"at most {MOST_JOINT_ACTIONS} combinations of discrete actions, not {joint}"
        raise other_actions(spec, algorithm, expected)
