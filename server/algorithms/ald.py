"""Actor-learner distillation (Parisotto et al. 2021, arXiv 2104.01655): a small network acts, a large one learns.

The large one, a transformer, is learnt by V-trace from what the small one, an LSTM, did; it never acts, so it has no
state in inference, and its cost is the learner's alone. The small one is distilled into continually: after each step of
the large one it makes some of its own, towards the policy and values of the large one, on recent unrolls.

    large   V-trace with mu = what acted  +  beta KL(mu || pi)
    small   KL(pi || pi')  +  alpha_V 1/2 (V - V')^2              or KL(pi' || pi)

A large network that never acted has no memory of what was before an unroll. So unrolls have rows in front, over which
it fills its memory from nothing; the small one goes over them from the state that was stored. Both get a gradient from
what they read there: what must be remembered is often in these rows.

Shapes: T transitions that are trained on, L rows, B unrolls.
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
from seedbed.server.algorithms.actor_critic import BEHAVIOUR
from seedbed.server.algorithms.batch_reading import batch_inputs, mask_of
from seedbed.server.algorithms.recent_unrolls import RecentUnrolls
from seedbed.server.algorithms.task_losses import (
    in_units_of,
    spreads_of,
    task_shares,
    value_moments,
    weighted,
    weights_of,
)
from seedbed.server.algorithms.update_steps import Group, Step
from seedbed.server.algorithms.vtrace import VTrace, VTraceOptions
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.masking import masked_reduce, only_valid, weight_of
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.interface import Outputs
from seedbed.server.networks.learnt import Learnt
from seedbed.server.networks.moments import ObservationMoments
from seedbed.server.networks.risk import RiskBound
from seedbed.server.networks.task_shares import TaskShares
from seedbed.server.networks.value_head import ValueHead, ValueMoments
from seedbed.server.options.config import ServerConfig

LEARNER, ACTOR = "learner", "actor"
"""Groups of parameters: the large network, and the small one, which acts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ALDOptions(VTraceOptions):
    """Actor-learner distillation"""

    learner_core: Literal["gtrxl", "trxl", "lstm"] = option(
        "gtrxl", "memory of the network that learns; --core is that of the one that acts", fixed=True
    )
    learner_core_size: int | None = option(None, "width of that memory (default: core size)", minimum=1, fixed=True)
    burn_in: int | None = option(
        None,
        "rows in front of those that are trained on, over which both memories are filled (default: core memory)",
        minimum=0,
        fixed=True,
    )
    distillation_steps: int = option(4, "S, steps of the acting network in each update", minimum=1)
    distillation_replay: int = option(10, "train batches of recent unrolls that these steps draw from", minimum=1)
    distillation: Literal["forward", "reverse"] = option(
        "forward",
        "forward: KL(learner || actor), which covers all that the learner does; reverse: KL(actor || learner)",
    )
    distillation_value_cost: float = option(0.5, "alpha_V: weight of half the squared difference of values", minimum=0)
    actor_pull: float = option(
        0.1, "beta: weight of KL(acting policy || learner), which keeps the two close", minimum=0
    )
    actor_learning_rate: float | None = option(
        None, "learning rate of the acting network at the start (default: learning rate)", minimum=0
    )


class Pair(Learnt):
    """Both networks, beside their statistics.

    Attributes:
        network: what acts.
        learner: what learns from reward.
        recent: unrolls to distil on; no part of its state, so that after a resume it begins with what comes in.
    """

    def __init__(
        self,
        network: ActorCritic,
        learner: ActorCritic,
        recent: RecentUnrolls,
        observations: ObservationMoments | None,
        values: ValueMoments | None,
        risk: RiskBound | None,
        shares: TaskShares | None,
    ) -> None:
        super().__init__(network, observations, values, risk, shares)
        self.network: ActorCritic = network
        self.learner = learner
        self.recent = recent


class ALD(VTrace):
    """The algorithm behind `--algorithm ald`."""

    Options = ALDOptions
    gossips = False
    draws_rows = True

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """Lays unrolls out.

        Raises:
            UsageError: the learner's memory cannot be split into heads.
        """
        super().__init__(config, spec)
        options: ALDOptions = config.algorithm_options
        self._ald = options
        burn_in = config.network.core_memory if options.burn_in is None else options.burn_in
        self.num_rows = burn_in + config.learning.unroll_length + 1
        self.trained_rows = range(burn_in, burn_in + config.learning.unroll_length)
        size = config.network.core_size if options.learner_core_size is None else options.learner_core_size
        heads = config.network.core_heads
        if options.learner_core != "lstm" and config.network.core_head_size is None and size % heads:
            raise UsageError(f"expected --core-heads that divide --learner-core-size {size}, got {heads}")
        self._learner_network = replace(config.network, core=options.learner_core, core_size=size)

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Any; only where memory is what is missing it is worth two networks."""
        return 0

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """An LSTM acts."""
        return {**super().defaults(spec), "network.core": "lstm", "network.core_size": 64}

    def make_learnt(self) -> nn.Module:
        """See the base class."""
        actor, learner = self.make_network(self._network), self.make_network(self._learner_network)
        recent, (values, risk, shares) = RecentUnrolls(self._ald.distillation_replay), self.reward_statistics()
        return Pair(actor, learner, recent, self.observation_moments(), values, risk, shares)

    def value_heads(self, learnt: nn.Module) -> Sequence[ValueHead]:
        """Both."""
        pair = pair_of(learnt)
        heads = (pair.network.value, pair.learner.value)
        assert all(isinstance(head, ValueHead) for head in heads)
        return heads  # type: ignore[return-value]

    def groups(self, learnt: nn.Module) -> Mapping[str, Group]:
        """Each network for itself."""
        pair = pair_of(learnt)
        return {
            LEARNER: Group(tuple(pair.learner.parameters())),
            ACTOR: Group(tuple(pair.network.parameters()), learning_rate=self._ald.actor_learning_rate),
        }

    def plan(self, version: int) -> Sequence[str]:
        """One from reward, then those of the distillation."""
        return (LEARNER, *(ACTOR,) * self._ald.distillation_steps)

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """The first distillation is on the batch at hand, so what comes in is seen at least once."""
        pair = pair_of(learnt)
        yield self._learn(pair, batch)
        pair.recent.add(batch)
        for number in range(self._ald.distillation_steps):
            yield self._distil(pair, pair.recent.draw(batch.valid.shape[1]) if number else batch)

    def _learn(self, pair: Pair, batch: TrainBatch) -> Step:
        """The large network, from reward."""
        trained = behind_burn_in(batch)
        seen = self.seen_of(self._taught(pair, batch), pair, trained)
        step = self.step_on(seen, pair, trained)
        divergences = weighted(seen.behaviour.kl(seen.policy), weights_of(task_shares(pair), trained))
        pull = masked_reduce(divergences, seen.valid, self._options.reduction)
        assert step.loss is not None
        total = step.loss + self._ald.actor_pull * pull
        return step._replace(loss=total, group=LEARNER, metrics={**step.metrics, "loss": total.detach()})

    def _distil(self, pair: Pair, batch: TrainBatch) -> Step:
        """The small network, towards what the large one says of the same rows now."""
        with torch.no_grad():
            theirs = self._taught(pair, batch)
        ours, trained = self._acted(pair, batch), behind_burn_in(batch)
        valid, mask = trained.valid, mask_of(trained, slice(-1))
        teacher, student, acted = (
            self._space.distribution(only_valid(parameters[:-1], valid), mask)
            for parameters in (theirs.policy, ours.policy, trained.fields[BEHAVIOUR])
        )
        divergences = teacher.kl(student) if self._ald.distillation == "forward" else student.kl(teacher)
        weights = weights_of(task_shares(pair), trained)
        divergence = masked_reduce(weighted(divergences, weights), valid, "mean")
        (differences,) = in_units_of(self._spreads(pair, trained), (theirs.value - ours.value)[:-1])
        values = masked_reduce(weighted(0.5 * only_valid(differences, valid).square(), weights), valid, "mean")
        total = divergence + self._ald.distillation_value_cost * values
        actions = tuple(only_valid(trained.fields[name][:-1], valid) for name in self._actions)
        drift = (student.log_prob(actions) - acted.log_prob(actions)).detach().abs()
        metrics = {
            "distillation_loss": total.detach(),
            "distillation_kl": divergence.detach(),
            "distillation_value_loss": values.detach(),
            "actor_drift_mean": masked_reduce(drift, valid, "mean"),
            "actor_drift_max": torch.where(valid, drift, 0.0).max(),
        }
        return Step(total, ACTOR, weight_of(valid, "mean"), metrics)

    def _taught(self, pair: Pair, batch: TrainBatch) -> Outputs:
        """What the large network says of the rows behind the burn-in, `[T + 1, B]`; its memory begins empty."""
        state = pair.learner.initial_state(batch.valid.shape[1], batch.valid.device)
        return self._behind_burn_in(pair.learner.unroll(batch_inputs(batch), state)[0], batch)

    def _acted(self, pair: Pair, batch: TrainBatch) -> Outputs:
        """What the small one says of them, from the state that was stored."""
        return self._behind_burn_in(pair.network.unroll(batch_inputs(batch), batch.state)[0], batch)

    def _behind_burn_in(self, outputs: Outputs, batch: TrainBatch) -> Outputs:
        start = batch.trained_rows.start
        return Outputs(outputs.policy[start:], outputs.value[start:])

    def _spreads(self, pair: Pair, batch: TrainBatch) -> Tensor | None:
        """Of values, with PopArt: differences of values have their unit."""
        statistics = value_moments(pair)
        return None if statistics is None else spreads_of(statistics.scale(), batch)


def pair_of(learnt: nn.Module) -> Pair:
    """What ALD learns."""
    assert isinstance(learnt, Pair)
    return learnt


def behind_burn_in(batch: TrainBatch) -> TrainBatch:
    """The rows of a train batch from the first that is trained on, `[T + 1, B]`, without agent state."""
    start = batch.trained_rows.start
    return replace(
        batch,
        observations=tuple(array[start:] for array in batch.observations),
        fields={name: array[start:] for name, array in batch.fields.items()},
        state=(),
        valid=batch.valid[start:],
        trained_rows=range(len(batch.trained_rows)),
    )
