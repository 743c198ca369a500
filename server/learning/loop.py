"""The learner thread: take a batch, update, publish. Everybody else looks at it between two updates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.source import Empty, Source
from seedbed.server.inference.parameters import Parameters
from seedbed.server.learning.exchange.whole import whole_update
from seedbed.server.learning.learner import Learner, Update
from seedbed.server.learning.metric_rows import MetricRows, columns_of
from seedbed.server.learning.spreads import Spreads, spread_of
from seedbed.server.shared.spread import Spread
from seedbed.server.shared.vitals import Vitals

_TRAINED = "transitions_trained"  # among the metrics of an update: how many of its batch's were


class Clock(Protocol):
    """How far a run is."""

    def share_done(self) -> float:
        """The share of it that is over, 0 to 1; see `Learner.update`."""

    def consume(self, num_transitions: int) -> None:
        """A train batch was learnt from: so many transitions to train on, masked ones included."""


class LearnerLoop:
    """Runs a learner until its source is closed.

    Attributes:
        learner: touch it only under `paused`.
        lost_streak: the latest updates, as of the last `take_metrics`, that all had a gradient that was not finite.
        trained: transitions trained on so far in this process, as of the last `take_metrics`.
    """

    def __init__(
        self,
        learner: Learner,
        source: Source,
        parameters: Parameters,
        batch_size: int,
        clock: Clock,
        vitals: Vitals,
        publish_every: int = 1,
    ) -> None:
        """Prepares; nothing runs yet.

        Args:
            learner: what is trained.
            source: where train batches come from.
            parameters: where what was learnt goes.
            batch_size: B.
            clock: of the run.
            vitals: of the device process.
            publish_every: train batches between two hand-overs.
        """
        self.learner = learner
        self.lost_streak = 0
        self._overtaken = 0
        self.trained = 0
        self._source = source
        self._parameters = parameters
        self._batch_size = batch_size
        self._clock = clock
        self._vitals = vitals
        self._publish_every = publish_every
        self._unpublished = 0
        self._between_updates = threading.Lock()
        self._metrics = MetricRows()
        self._spreads = Spreads()
        self._device = next(learner.network.parameters()).device

    def run(self) -> None:
        """One turn after the other: take, update, publish, count."""
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # each thread has a current one of its own
        try:
            self._turn_round()
        finally:
            self._vitals["taken_s"] = 0  # who has failed is not stuck: the end of the run would be taken for a stall

    def _turn_round(self) -> None:
        free_s = time.monotonic()
        while (batch := self.learner.exchange.turn(self._take)) is not Empty.CLOSED:
            self._vitals["taken_s"] = taken_s = time.monotonic()
            update = self._update(None if isinstance(batch, Empty) else batch)
            if not isinstance(batch, Empty) and update is not None and update.priorities is not None:
                self._source.update_priorities(batch, update.priorities)
            self._vitals.observe("batch_wait", taken_s - free_s)
            free_s = time.monotonic()
            self._vitals.observe("update", free_s - taken_s)
            self._vitals.add("updates")
            self._vitals["update_s"], self._vitals["taken_s"] = free_s, 0

    def _take(self, timeout_s: float) -> TrainBatch | Empty:
        """Waits for a train batch; one that the learner must not learn from any more is dropped and counted."""
        batch = self._source.get(self._batch_size, timeout_s)
        if isinstance(batch, TrainBatch) and self.learner.is_overtaken(batch):
            self._overtaken += batch.num_transitions
            return Empty.NOT_YET
        return batch

    def _update(self, batch: TrainBatch | None) -> Update | None:
        """All of it or nothing; None: it was made of others' train batches alone."""
        learner = self.learner
        with self._between_updates:
            with whole_update(learner, learner.exchange.world if learner.exchange.joint else 1):
                update = None if batch is None else learner.update(batch, self._clock.share_done())
                if batch is None:
                    learner.update_without_batch(self._clock.share_done())
            self._publish()
            if batch is not None and update is not None:
                self._count(batch, update)
        return update

    def _publish(self) -> None:
        self._unpublished += 1
        if self._unpublished == self._publish_every:
            self._parameters.publish(self.learner.network, self.learner.num_updates)
            self._unpublished = 0

    def _count(self, batch: TrainBatch, update: Update) -> None:
        self._clock.consume(batch.num_transitions)
        self._metrics.add({**update.metrics, _TRAINED: batch.num_valid})
        self._spreads.add(update.histograms)

    @property
    def unused(self) -> int:
        """Transitions that were taken from the source and not learnt from: of rounds that an update made without them
        came before, and of the batch in hand when several learners ended.
        """
        return self._overtaken + self.learner.exchange.unused

    def take_metrics(self) -> dict[str, float]:
        """Metrics since the last call: the maximum of those named `*_max`, the mean of the others.

        Of one that some updates do not have, as of steps that are made now and then, over those that do.
        """
        with self._between_updates:
            taken = self._metrics.take()
        if not taken:
            return {}
        columns = columns_of(taken)
        self.trained += int(columns.pop(_TRAINED).double().sum())
        self._count_lost(columns["gradient_norm"].isfinite().tolist())
        return {name: float(x.max() if name.endswith("_max") else x.mean()) for name, x in columns.items()}

    def take_spreads(self) -> dict[str, Spread]:
        """How values of the newest updates since the last call are spread, by name."""
        with self._between_updates:
            taken = self._spreads.take()
        found = {name: spread_of(values) for name, values in taken.items()}
        return {name: spread for name, spread in found.items() if spread is not None}

    def _count_lost(self, finite: list[bool]) -> None:
        """Done here, where the numbers have come from the device, so that no update waits for it."""
        self._vitals.add("lost_updates", finite.count(False))
        for well in finite:
            self.lost_streak = 0 if well else self.lost_streak + 1

    def snapshot(self) -> dict[str, Any]:
        """A copy of the learner's state between two updates, on the host; the next one does not wait for its way."""
        with self._between_updates:
            self.learner.gather()
            copied = _mapped(lambda tensor: tensor.detach().clone(), self.learner.get_state())
        return dict(_mapped(lambda tensor: tensor.cpu(), copied))


def _mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Applied to every tensor in it."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _mapped(function, part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(function, part) for part in value)
    return value
