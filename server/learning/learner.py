"""Train batch -> the steps of an update -> metrics. No threads, no queues, no files.

An update is one train batch, whatever number of optimiser steps it makes. All that must survive a restart is in
`get_state`, but the generator of torch, which minibatches and noise are drawn from and every start seeds anew: two
learners with equal state and generator given equal batches stay bit-equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seedbed.common.errors import ConfigError, UsageError
from seedbed.server.algorithms.interface import Algorithm, moments_within
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.regimes import REGIMES
from seedbed.server.learning.checks import check_disjoint, check_normalisers, expect_same_network
from seedbed.server.learning.exchange.alone import Alone
from seedbed.server.learning.exchange.interface import Exchange
from seedbed.server.learning.exchange.mixture import Mixture
from seedbed.server.learning.graphed_update import GraphedUpdate
from seedbed.server.learning.group_steps import GroupSteps
from seedbed.server.learning.policy_lag import acting_versions, lag_metrics, lag_of_each
from seedbed.server.learning.summary import summary
from seedbed.server.learning.target_network import TargetNetwork
from seedbed.server.networks.interface import PolicyNetwork
from seedbed.server.options.learning import OptimiserConfig


class Update(NamedTuple):
    """What came of a train batch.

    Attributes:
        metrics: scalars by name.
        priorities: new ones of the batch's unrolls `[B]`, for a replay.
        weights: what the main loss of each step has been divided by, in the order of the plan.
        histograms: values by name, NaN where they do not count; of several steps those of the last one.
    """

    metrics: Mapping[str, Tensor]
    priorities: Tensor | None
    weights: Sequence[Tensor] = ()
    histograms: Mapping[str, Tensor] = MappingProxyType({})


class Learner:
    """Owns what is learnt.

    Attributes:
        learnt: float32 weights.
        network: the part of it that acts.
        num_updates: train batches so far, or turns without one: the version of `learnt`.
        exchange: with the other learners of the run.
    """

    def __init__(
        self, algorithm: Algorithm, config: OptimiserConfig, device: torch.device, exchange: Exchange | None = None
    ) -> None:
        self.exchange = exchange or Alone()
        self.learnt: nn.Module = algorithm.make_learnt().to(device)
        self.network: PolicyNetwork = algorithm.acting(self.learnt)
        check_normalisers(self.learnt)
        self.num_updates = 0
        self._algorithm = algorithm
        if self.exchange.joint:
            algorithm.over_learners = self._over_learners
        self._has_summed = False
        groups = algorithm.groups(self.learnt)
        check_disjoint(groups)
        graphed = config.update_graphs and device.type == "cuda"
        self._steps = GroupSteps(groups, config, sums=algorithm.sums, graphed=graphed)
        self._graph = GraphedUpdate(self._work) if graphed else None
        drawn = algorithm.regime == "rounds" or algorithm.draws_rows
        if graphed and (config.optimiser != "adam" or drawn or self.exchange.world > 1):
            raise UsageError(
                "expected --update-graphs with --optimiser adam, one learner, and an algorithm that neither learns in "
                f"rounds nor draws rows within an update, got --optimiser {config.optimiser}, {self.exchange.world} "
                f"learners and {type(algorithm).__name__}"
            )
        self._target = None
        if algorithm.target is not None:
            self._target = TargetNetwork(algorithm.targeted(self.learnt), algorithm.target)

    @property
    def target(self) -> nn.Module | None:
        """The target network, for algorithms that ask for one."""
        return None if self._target is None else self._target.module

    @property
    def optimiser_steps(self) -> int:
        """Of all groups together so far."""
        return self._steps.taken

    def update(self, batch: TrainBatch, progress: float) -> Update:
        """The steps that the algorithm makes of a train batch.

        Args:
            batch: B unrolls on this learner's device.
            progress: share of the run that is over, 0 to 1; learning rates decay with it.

        Returns:
            What came of it, still on the device: reading it waits for it.

        Raises:
            RuntimeError: the regime is on policy, and other parameters than the newest acted.
        """
        if REGIMES[self._algorithm.regime].on_policy:
            self._check_on_policy(batch)
        if self._graph is not None:
            return self._replay(self._graph, batch, progress)
        plan = self._algorithm.plan(self.num_updates)
        observed = self._algorithm.observed(self.learnt, batch)
        taken: list[Step] = []
        metrics: list[Mapping[str, Tensor]] = []
        moments: Mapping[str, Tensor] = {}
        self._has_summed = False
        for group, step in zip(plan, self._algorithm.steps(self.learnt, self.target, batch), strict=True):
            self._sum_nothing()  # where the first step did not ask
            assert step.group == group, f"planned {plan}, got {step.group} as number {len(taken)}"
            taken.append(step._replace(loss=None))
            if len(taken) == len(plan):  # before the last step: one that is not shared by all is not made
                moments = self._shared([observed, *(each.moments or {} for each in taken)])
            norms = self._steps.descend(group, step.loss, step.weight, progress, self.exchange)
            if norms is not None:
                metrics.append({**step.metrics, **norms})
        found = {**summary(metrics), **self._lag_and_rate(batch, progress)}
        histograms = {"policy_lag": lag_of_each(batch, self.num_updates)}
        found |= self._finish(moments)
        found |= self._algorithm.statistics(self.learnt)
        priorities = [step.priorities for step in taken if step.priorities is not None]
        assert len(priorities) <= 1, "only one step of an update may return priorities"
        for step in taken:
            histograms.update(step.histograms or {})
        return Update(found, priorities[0] if priorities else None, [step.weight for step in taken], histograms)

    def _replay(self, graph: GraphedUpdate, batch: TrainBatch, progress: float) -> Update:
        """An update whose work on the device is replayed; all that goes by the version stays with the host."""
        taken = self._steps.taken + self.num_steps  # what recording takes is one update's, and replaying takes none
        self._steps.set_rates(progress)
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in graph(batch).items():
            kind, _, own = name.partition("/")
            parts.setdefault(kind, {})[own] = tensor
        metrics = {**parts["metric"], **self._lag_and_rate(batch, progress)}
        histograms = {"policy_lag": lag_of_each(batch, self.num_updates), **parts.get("histogram", {})}
        self._go_on()
        self._steps.taken = taken
        return Update(metrics, parts.get("priorities", {}).get(""), list(parts["weight"].values()), histograms)

    def _work(self, batch: TrainBatch) -> Mapping[str, Tensor]:
        """All that an update does on the device, and what comes of it; learning rates have been set."""
        taken: list[Step] = []
        metrics: list[Mapping[str, Tensor]] = []
        given = [self._algorithm.observed(self.learnt, batch)]
        for step in self._algorithm.steps(self.learnt, self.target, batch):
            taken.append(step._replace(loss=None))
            given.append(step.moments or {})
            norms = self._steps.descend(step.group, step.loss, step.weight, None, self.exchange)
            metrics.append({**step.metrics, **(norms or {})})
        with torch.no_grad():
            self._algorithm.after_update(self.learnt, self._shared(given))
        found = {f"metric/{name}": metric for name, metric in summary(metrics).items()}
        found |= {f"metric/{name}": metric for name, metric in self._algorithm.statistics(self.learnt).items()}
        found |= {f"weight/{number}": step.weight for number, step in enumerate(taken)}
        for step in taken:
            found |= {f"histogram/{name}": values for name, values in (step.histograms or {}).items()}
            found |= {} if step.priorities is None else {"priorities/": step.priorities}
        return found

    @property
    def num_steps(self) -> int:
        """Steps of the next update."""
        return len(self._algorithm.plan(self.num_updates))

    def update_without_batch(self, progress: float) -> None:
        """Walks through the steps of an update without rows, so that others can make it of their batches alone."""
        moments: Mapping[str, Tensor] = {}
        plan = self._algorithm.plan(self.num_updates)
        self._has_summed = False
        self._sum_nothing()
        for number, group in enumerate(plan, start=1):
            if number == len(plan):
                moments = self._shared([])
            self._steps.descend(group, None, None, progress, self.exchange)
        self._finish(moments)

    def _over_learners(self, given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Sums that a loss needs, over all learners; see `Algorithm.over_learners`."""
        assert not self._has_summed, "expected sums over learners to be asked for once in an update"
        self._has_summed = True
        return self.exchange.moments(given, lambda: self._algorithm.no_sums(self.learnt))

    def _sum_nothing(self) -> None:
        """Takes part in the others' sums of this update without rows, unless it has taken part."""
        if self.exchange.joint and not self._has_summed:
            self._over_learners({})

    def _shared(self, given: Iterable[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """The moments of an update, added up over its steps and over all learners."""
        moments: dict[str, Tensor] = {}
        for sums in given:
            for name, moment in sums.items():
                moments[name] = moments[name] + moment if name in moments else moment
        return self.exchange.moments(moments, lambda: self._algorithm.no_moments(self.learnt))

    def _finish(self, moments: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """After the last step: statistics, what other learners have sent, version, target network."""
        with torch.no_grad():
            self._algorithm.after_update(self.learnt, moments)
        metrics = self.exchange.mix(self.learnt)
        self._go_on()
        return metrics

    def _go_on(self) -> None:
        """The next version, and the target network after it."""
        before, self.num_updates = self.num_updates, self.exchange.version_after(self.num_updates + 1)
        if self._target is not None:
            self._target.follow(before, self.num_updates)

    def gather(self) -> None:
        """Takes what other learners keep of the parameters, for a checkpoint."""
        version = self.exchange.gather()
        self.num_updates = self.num_updates if version is None else version

    @property
    def mixture(self) -> Mixture:
        """What learners that are mixed send one another."""
        parameters = list(self.learnt.parameters())
        return Mixture(parameters, self._algorithm.mixable(self.learnt), moments_within(self.learnt))

    def _lag_and_rate(self, batch: TrainBatch, progress: float) -> Mapping[str, Tensor]:
        """Metrics of an update that none of its steps gives."""
        return {**lag_metrics(batch, self.num_updates), "learning_rate": torch.tensor(self._steps.rate(progress))}

    def is_overtaken(self, batch: TrainBatch) -> bool:
        """Whether a round was acted by older parameters than the newest: among several learners an update was made
        without it.
        """
        if not self.exchange.joint or not REGIMES[self._algorithm.regime].on_policy:
            return False
        return acting_versions(batch) not in ([], [self.num_updates])

    def _check_on_policy(self, batch: TrainBatch) -> None:
        versions = acting_versions(batch)
        if versions not in ([], [self.num_updates]):
            raise RuntimeError(
                f"expected a batch that version {self.num_updates} acted, got versions {versions}: "
                "an algorithm that learns in rounds must not learn from it"
            )

    def get_state(self) -> dict[str, Any]:
        """Parameters, optimisers and counters; tensors are shared with the learner, not copied."""
        state = {
            "learnt": self.learnt.state_dict(),
            "optimisers": self._steps.get_state(),
            "num_updates": self.num_updates,
            "optimiser_steps": self.optimiser_steps,
        }
        if (shared := self.exchange.get_state()) != {}:
            state["exchange"] = shared
        return state if self._target is None else state | {"target": self._target.module.state_dict()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `get_state`.

        Raises:
            ConfigError: it is that of another learner.
        """
        try:
            self.learnt.load_state_dict(state["learnt"])
            self._steps.set_state(state["optimisers"])
            self.num_updates, self._steps.taken = int(state["num_updates"]), int(state["optimiser_steps"])
            if self._target is not None:
                self._target.module.load_state_dict(state["target"])
            self.exchange.set_state(state.get("exchange", {}), self.num_updates)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise ConfigError(
                f"expected the state of this run's learner in its checkpoint, got another: {error}"
            ) from None

    def take_weights(self, weights: Mapping[str, Tensor], source: str, differences: Sequence[str] = ()) -> None:
        """Starts from what another run has learnt; optimisers and counters stay fresh.

        Args:
            weights: as in "learnt" of `get_state`.
            source: that run, for messages.
            differences: between that run and this one, which a message names instead of tensors.

        Raises:
            ConfigError: they are those of another network.
        """
        expect_same_network(self.learnt.state_dict(), weights, source, differences)
        self.learnt.load_state_dict(weights)
        if self._target is not None:
            self._target.module.load_state_dict(self._algorithm.targeted(self.learnt).state_dict())
