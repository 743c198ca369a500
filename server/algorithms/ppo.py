"""Proximal policy optimisation with the clipped objective (Schulman et al. 2017, arXiv 1707.06347).

Advantages (GAE) and value targets are computed once, with the parameters that acted; then several epochs of optimiser
steps are made on minibatches of whole unrolls, which keeps recurrent networks possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.actor_critic import (
    ActorCriticAlgorithm,
    has_boxes,
    return_targets,
)
from seedbed.server.algorithms.actor_critic_options import ActorCriticOptions
from seedbed.server.algorithms.minibatches import NO_ROWS, minibatches_of, orders_of, plan_of
from seedbed.server.algorithms.requirements import has_one_discrete_action
from seedbed.server.algorithms.seen import Seen, Targets
from seedbed.server.algorithms.task_losses import VALUE_TARGETS, spreads_of, task_of, value_moments, weighted
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.transfer import put
from seedbed.server.losses.energy import energy_step_loss
from seedbed.server.losses.ppo import clipped_surrogate_loss, normalise
from seedbed.server.networks.array_kinds import shows_images, shows_pixels
from seedbed.server.networks.value_head import Scale, sums_of
from seedbed.server.options.config import ServerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOOptions(ActorCriticOptions):
    """PPO"""

    lambda_: float = option(0.95, "lambda of GAE", flag="--lambda")
    clip_ratio: float = option(0.1, "epsilon: how far the ratio of policies may go from 1")
    epochs: int = option(4, "times that each train batch is gone through", minimum=1)
    minibatches: int = option(4, "optimiser steps in an epoch, each on as many of the unrolls", minimum=1)
    policy_step: Literal["clipped", "energy"] = option(
        "clipped",
        "policy's objective: the clipped surrogate, or energies moved by advantages, which does not fade where the "
        "policy is nearly certain (one discrete action)",
    )
    energy_step: float = option(0.2, "energy: step of the energies for an advantage of 1")
    temperature: float = option(0.1, "energy: weight of the draw towards the even policy, in the unit of rewards")

    def __post_init__(self) -> None:
        ActorCriticOptions.__post_init__(self)
        if not self.clip_ratio > 0:
            raise UsageError(f"expected --clip-ratio of more than 0, got {self.clip_ratio}")
        if not self.energy_step > 0:
            raise UsageError(f"expected --energy-step of more than 0, got {self.energy_step}")
        if self.temperature < 0:
            raise UsageError(f"expected --temperature of at least 0, got {self.temperature}")


ADVANTAGES = "advantages"
"""Name of the sums over each minibatch's advantages among those of all learners."""


class PPO(ActorCriticAlgorithm):
    """The algorithm behind `--algorithm ppo`."""

    Options = PPOOptions
    regime = "rounds"

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """See the base class.

        Raises:
            UsageError: energies for other actions than one discrete one.
        """
        super().__init__(config, spec)
        if self._options.policy_step == "energy" and not has_one_discrete_action(spec):
            came = ", ".join(f"{action.name!r} {action}" for action in spec.actions)
            raise UsageError(f"expected one discrete action with --policy-step energy, got {came}: take clipped")

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """The usual choice of the family, but for pixels.

        Where updates are cheap it makes many of each step. Of boxes: where deviations are small, even a little lag is
        far off policy.
        """
        return 10 if has_boxes(spec) or not shows_pixels(spec.shown) else 0

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """For pixels OpenAI Baselines, baselines/ppo2/defaults.py, for Atari: 4 minibatches and 4 epochs there, too.

        For all else docs/defaults.md: short unrolls, since minibatches are of whole ones.
        """
        common = {**super().defaults(spec), "optimiser.epsilon": 1e-5, "optimiser.clip_norm": 0.5}
        if shows_pixels(spec.shown):
            return {**common, "learning.unroll_length": 128, "optimiser.learning_rate": 2.5e-4}
        return {
            **common,
            "learning.unroll_length": 64,
            "optimiser.learning_rate": 1e-3,
            "algorithm_options.epochs": 4 if shows_images(spec.shown) else 10,
            "algorithm_options.clip_ratio": 0.2,
        }

    def plan(self, version: int) -> Sequence[str]:
        """Every minibatch of every epoch."""
        return plan_of(self._options.epochs, self._options.minibatches)

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """All unrolls in random order, as many times as there are epochs, with their targets beside them."""
        for number, part in enumerate(self.minibatches(learnt, batch)):
            step = self.step(learnt, part) if part is not None else NO_ROWS
            yield step if number < self._options.minibatches else step._replace(moments=None)  # each transition once

    def minibatches(self, learnt: nn.Module, batch: TrainBatch) -> Iterator[TrainBatch | None]:
        """What each step learns from; None where there are fewer unrolls than minibatches."""
        with torch.no_grad():
            seen = self.see(learnt, batch)
            targets = return_targets(seen, self._options.lambda_)
        fields = {**batch.fields, "value_target": targets.values, "advantage": targets.advantages}
        orders = orders_of(batch, self._options.epochs)
        sums, scale = self._sums(learnt, targets, orders, batch), None
        if (statistics := value_moments(learnt)) is not None:
            scale = statistics.scale(sums[VALUE_TARGETS])
            fields["value_spread"] = spreads_of(scale, batch).expand_as(targets.values)
        batch = replace(batch, fields=fields)
        parts = minibatches_of(batch, orders=orders, minibatches=self._options.minibatches)
        if ADVANTAGES not in sums:
            yield from parts
            return
        for part, (mean, deviation) in zip(parts, normals_of(sums[ADVANTAGES], scale), strict=True):
            normal = {"advantage_mean": mean, "advantage_deviation": deviation}
            yield None if part is None else replace(part, fields={**part.fields, **normal})

    def _sums(
        self, learnt: nn.Module, targets: Targets, orders: Sequence[Tensor], batch: TrainBatch
    ) -> Mapping[str, Tensor]:
        """Of value targets, and of several learners those of each minibatch's advantages: its rows of all learners are
        normalised together.
        """
        sums, task = {}, task_of(batch)
        if (statistics := value_moments(learnt)) is not None:
            sums[VALUE_TARGETS] = statistics.sums(targets.values, batch.valid, task)
        if self._normalises_together:
            parts = [part for order in orders for part in order.tensor_split(self._options.minibatches)]
            sums[ADVANTAGES] = torch.stack(
                [
                    sums_of(
                        targets.advantages[:, part],
                        batch.valid[:, part],
                        None if task is None else task[:, part],
                        self._spec.num_tasks,
                    )
                    for part in (put(part, batch.valid.device) for part in parts)
                ]
            )
        return self.everybodys(sums)

    def no_sums(self, learnt: nn.Module) -> Mapping[str, Tensor]:
        """See the base class; those of advantages, too."""
        found = dict(super().no_sums(learnt))
        if self._normalises_together:
            like = next(learnt.parameters())
            steps = self._options.epochs * self._options.minibatches
            found[ADVANTAGES] = like.new_zeros((steps, 3, self._spec.num_tasks), dtype=torch.float64)
        return found

    @property
    def _normalises_together(self) -> bool:
        """Whether advantages are normalised by moments of all learners' rows."""
        return self.over_learners is not None and self._options.policy_step == "clipped"

    def targets(self, seen: Seen, batch: TrainBatch) -> Targets:
        """Those of the parameters that acted."""
        fields = batch.fields
        normal = (fields["advantage_mean"], fields["advantage_deviation"]) if self._normalises_together else None
        return Targets(fields["value_target"], fields["advantage"], fields.get("value_spread"), normal)

    def policy_loss(self, seen: Seen, advantages: Tensor) -> Tensor:
        """The clipped surrogate, advantages normalised within the minibatch; or the energies' step, as they are."""
        if self._options.policy_step == "energy":
            return energy_step_loss(
                log_ratios=seen.log_ratios,
                log_behaviour=seen.log_probs - seen.log_ratios,
                behaviour_entropy=seen.behaviour.entropy(),
                num_actions=self._spec.num_actions,
                advantages=advantages,
                valid=seen.valid,
                step=self._options.energy_step,
                temperature=self._options.temperature,
                reduction=self._options.reduction,
            )
        return clipped_surrogate_loss(
            log_ratios=seen.log_ratios,
            advantages=weighted(
                advantages if self._normalises_together else normalise(advantages, seen.valid), seen.weights
            ),
            valid=seen.valid,
            clip_ratio=self._options.clip_ratio,
            reduction=self._options.reduction,
        )


def normals_of(sums: Tensor, scale: Scale | None) -> list[tuple[Tensor, Tensor]]:
    """Mean and deviation of each minibatch's advantages in units of their spreads, float32.

    Args:
        sums: of advantages of each task, float64 `[minibatches, 3, K]`.
        scale: of each task's values; None: they are not scaled.
    """
    spread = 1.0 if scale is None else scale.spread.float().double()
    counts, totals, squares = sums.unbind(1)
    count = counts.sum(1).clamp(min=1.0)
    mean = (totals / spread).sum(1) / count
    second = (squares / spread**2).sum(1) / count
    deviation = (second - mean.square()).clamp(min=0.0).sqrt()
    return list(zip(mean.float(), deviation.float(), strict=True))
