"""Train batch -> loss -> optimiser step -> metrics. No threads, no queues, no files.

All that must survive a restart is in `get_state`: two learners with equal state given equal batches stay bit-equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.regimes import REGIMES
from seedbed.server.learning.optimisers import clip_gradients, linear_decay, make_optimiser, set_learning_rate
from seedbed.server.losses.policy_gradient import masked_reduce
from seedbed.server.networks.interface import PolicyNetwork
from seedbed.server.options.learning import OptimiserConfig


class Update(NamedTuple):
    """What came of a train batch.

    Attributes:
        metrics: scalars by name.
        priorities: new ones of the batch's unrolls `[B]`, for a replay.
    """

    metrics: Mapping[str, Tensor]
    priorities: Tensor | None


class Learner:
    """Owns the network being learnt.

    Attributes:
        network: float32 weights.
        target: an earlier copy of it, for algorithms that ask for one; else None.
        num_updates: optimiser steps so far: the version of `network`.
    """

    def __init__(self, algorithm: Algorithm, config: OptimiserConfig, device: torch.device) -> None:
        self.network: PolicyNetwork = algorithm.make_network().to(device)
        self.target = self._make_target(algorithm, device)
        self.num_updates = 0
        self._algorithm = algorithm
        self._config = config
        self._optimiser = make_optimiser(
            self.network.parameters(),
            name=config.optimiser,
            learning_rate=config.learning_rate,
            epsilon=config.epsilon,
            decay=config.decay,
            momentum=config.momentum,
            centred=config.centred,
            beta1=config.beta1,
            beta2=config.beta2,
        )

    def update(self, batch: TrainBatch, progress: float) -> Update:
        """One optimiser step, or as many as the algorithm makes of a train batch.

        Args:
            batch: B unrolls on this learner's device.
            progress: share of the run that is over, 0 to 1; the learning rate decays with it.

        Returns:
            What came of it, still on the device: reading it waits for it.

        Raises:
            RuntimeError: the algorithm learns in rounds, and other parameters than the newest acted.
        """
        if REGIMES[self._algorithm.regime].on_policy:
            self._check_on_policy(batch)
        rate = linear_decay(self._config.learning_rate, self._config.final_learning_rate_share, progress)
        set_learning_rate(self._optimiser, rate)
        steps = [self._step(part, rate) for part in self._algorithm.minibatches(self.network, batch)]
        return steps[0] if len(steps) == 1 else _summary(steps)

    def _step(self, batch: TrainBatch, rate: float) -> Update:
        """One optimiser step, and where one is kept and it is time, a new target network."""
        loss = self._algorithm.loss(self.network, self.target, batch)
        self._optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = clip_gradients(self.network.parameters(), self._config.clip_norm)
        self._optimiser.step()
        lag = torch.where(batch.valid, self.num_updates - batch.fields["policy_version"][:-1], 0)
        self.num_updates += 1
        self._refresh_target()
        metrics = {
            **loss.metrics,
            "gradient_norm": norm,
            "learning_rate": torch.tensor(rate),
            "policy_lag_mean": masked_reduce(lag.float(), batch.valid, "mean"),
            "policy_lag_max": lag.max(),
        }
        return Update(metrics, loss.priorities)

    def _check_on_policy(self, batch: TrainBatch) -> None:
        versions = batch.fields["policy_version"][:-1][batch.valid]
        if bool((versions != self.num_updates).any()):
            raise RuntimeError(
                f"expected a batch that version {self.num_updates} acted, got versions {versions.unique().tolist()}: "
                "a synchronous algorithm must not learn from it"
            )

    def get_state(self) -> dict[str, Any]:
        """Parameters, optimiser and counters; tensors are shared with the learner, not copied."""
        state = {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "num_updates": self.num_updates,
        }
        return state if self.target is None else state | {"target": self.target.state_dict()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `get_state`."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.num_updates = state["num_updates"]
        if self.target is not None:
            self.target.load_state_dict(state["target"])

    def _make_target(self, algorithm: Algorithm, device: torch.device) -> PolicyNetwork | None:
        if algorithm.target_period_updates is None:
            return None
        target = algorithm.make_network().to(device).requires_grad_(False)
        target.load_state_dict(self.network.state_dict())
        return target

    def _refresh_target(self) -> None:
        period = self._algorithm.target_period_updates
        if self.target is not None and period is not None and self.num_updates % period == 0:
            self.target.load_state_dict(self.network.state_dict())


def _summary(steps: Sequence[Update]) -> Update:
    """The mean of the steps' metrics, the maximum of those named `*_max`."""
    metrics = {}
    for name in steps[0].metrics:
        column = torch.stack([step.metrics[name] for step in steps])
        metrics[name] = column.amax() if name.endswith("_max") else column.mean()
    return Update(metrics, None)
