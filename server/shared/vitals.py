"""Numbers about a running server, in shared memory: every process writes its own, anybody reads all.

Always on, so that a question asked when a run is slow has an answer: writing one number costs about 0.1 us. Every
number has one writer (a process, and in it one thread), so nothing is locked. Whoever reads may be a moment late, never
wrong for long: the `Status` call and the log read here.

Durations go into histograms whose bucket i counts those below 2^i us, the last one all others. A row that waits in a
batch of N counts N times where the duration is that of a request, once where it is that of a batch: see `STAGES`.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import SeedbedError
from seedbed.server.shared.memory import SharedFile, SharedTable
from seedbed.server.shared.named_numbers import NamedNumbers

NUM_BUCKETS = 26
"""Durations up to 2^24 us, 17 s, are told apart; batch sizes up to 2^24 rows."""

STAGES: Mapping[str, str] = {
    "residence": "a request in the frontend: read, to its answer handed to gRPC",
    "accept": "a request's check and copy into the slots",
    "wait": "a request's rows from the slots into a batch: channel, and waiting for company or for the device",
    "inference": "a batch: gather, policy, sample, actions back into the slots",
    "reply": "a request's actions from the slots to the frontend that sends them",
    "remember": "a batch's bookkeeping, after its actions are out",
    "back_pressure": "complete unrolls into the learner's queue or the replay: long while that is full",
    "batch_wait": "the learner waits for a train batch",
    "update": "one update and its publication",
}

COUNTERS: Mapping[str, str] = {
    "messages": "Steps accepted",
    "rows": "timesteps in them",
    "received_bytes": "of observations",
    "sent_bytes": "of actions",
    "streams_opened": "Act calls that got a lease",
    "batches": "inference batches",
    "batch_rows": "rows in them",
    "agent_steps": "answered rows that were not LAST",
    "leases_opened": "new leases",
    "leases_resumed": "leases that went on with another stream",
    "leases_expired": "leases whose client did not come back in time",
    "leases_fenced": "leases that a newer run of their client ended",
    "updates": "optimiser steps",
    "lost_updates": "of them, those whose gradient was not finite: they changed no parameter",
    "episodes": "that ended",
    "episodes_refused": "ends that clients told of and the rows of these episodes do not say",
    "frontend_restarts": "frontends that died and were replaced",
    "checkpoints": "written",
    "checkpoint_failures": "attempts to write one that failed, on a full disk for instance",
}

GAUGES: Mapping[str, str] = {
    "pid": "of the process",
    "started_s": "when it started",
    "phase": "see Phase",
    "streams": "open Act calls",
    "clients": "client processes that hold a live lease",
    "live_rows": "slots whose lease has a stream",
    "used_rows": "slots under a lease, in grace or not",
    "queued_unrolls": "unrolls that wait for the learner",
    "turn_s": "when the inference thread last went round its loop",
    "joined_s": "when the main thread began to wait for the end of the inference thread; 0: it does not",
    "hands_over": "1 while it hands unrolls to the learner, and may have to wait for it",
    "taken_s": "when the learner took the batch it has in hand; 0: it waits for one",
    "update_s": "when the learner last finished an update",
    "tick_s": "when the main thread, or a frontend's event loop, last showed that it turns",
    "saved_s": "when the last checkpoint was complete",
    "policy_lag_mean": "over the last log interval, in updates",
    "policy_lag_max": "over the last log interval, in updates",
    "episode_return_mean": "over the latest episodes",
    "cohort_return_mean": "of the newest cohort",
    "loss": "over the last log interval",
}


class Phase(IntEnum):
    """Where a server stands; numbered as in the wire's StatusResponse."""

    STARTING = 0
    SERVING = 1
    DRAINING = 2
    FAILED = 3


_REFUSALS = tuple(sorted(cls.__name__ for cls in SeedbedError.__subclasses__()))
_NUMBERS = (*COUNTERS, *GAUGES, *(f"refused:{name}" for name in _REFUSALS))
_HISTOGRAMS = (*STAGES, "batch_sizes")
_PLACES = {name: place for place, name in enumerate(_NUMBERS)}
_HISTOGRAM_PLACES = {name: len(_NUMBERS) + number * (NUM_BUCKETS + 1) for number, name in enumerate(_HISTOGRAMS)}
_NUM_VALUES = len(_NUMBERS) + len(_HISTOGRAMS) * (NUM_BUCKETS + 1)


@dataclass(frozen=True, slots=True)
class Histogram:
    """What a histogram holds.

    Attributes:
        sum: of all values, in seconds, or in rows for batch sizes.
        buckets: bucket i counts values below 2^i us, or of at most 2^i rows; the last one all others.
    """

    sum: float
    buckets: tuple[int, ...]

    @property
    def count(self) -> int:
        """Values in it."""
        return sum(self.buckets)


class Vitals:
    """The numbers of one process; written by it, read by all."""

    def __init__(self, values: memoryview[float]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> float:
        """A counter or gauge."""
        return float(self._values[_PLACES[name]])

    def __setitem__(self, name: str, value: float) -> None:
        self._values[_PLACES[name]] = value

    def add(self, name: str, amount: float = 1) -> None:
        """Raises a counter."""
        self._values[_PLACES[name]] += amount

    def refuse(self, error: SeedbedError) -> None:
        """Counts an error that ended a call."""
        self.add(next(f"refused:{cls.__name__}" for cls in type(error).__mro__ if cls.__name__ in _REFUSALS))

    @property
    def refusals(self) -> dict[str, int]:
        """Errors that ended calls, by the name of their class; those that occurred."""
        counts = {name: int(self[f"refused:{name}"]) for name in _REFUSALS}
        return {name: count for name, count in counts.items() if count}

    def observe(self, stage: str, seconds: float) -> None:
        """Counts one duration."""
        place = _HISTOGRAM_PLACES[stage]
        self._values[place] += seconds
        self._values[place + 1 + _bucket(int(seconds * 1e6))] += 1

    def observe_each(self, stage: str, seconds: NDArray[np.float64]) -> None:
        """Counts many durations `[n]` at once."""
        if len(seconds) < 12:  # below that a loop is quicker than numpy
            for value in seconds.tolist():
                self.observe(stage, value)
            return
        place = _HISTOGRAM_PLACES[stage]
        self._values[place] += float(seconds.sum())
        exponents = np.minimum(np.frexp(np.maximum(seconds * 1e6, 0.5))[1], NUM_BUCKETS - 1)  # `clip` takes 3 us
        counts = np.bincount(exponents, minlength=NUM_BUCKETS)
        for bucket in np.flatnonzero(counts).tolist():
            self._values[place + 1 + bucket] += int(counts[bucket])

    def observe_batch(self, num_rows: int) -> None:
        """Counts one inference batch."""
        self.add("batches")
        self.add("batch_rows", num_rows)
        place = _HISTOGRAM_PLACES["batch_sizes"]
        self._values[place] += num_rows
        self._values[place + 1 + _bucket(num_rows - 1)] += 1

    def histogram(self, name: str) -> Histogram:
        """Of a stage, or "batch_sizes"."""
        place = _HISTOGRAM_PLACES[name]
        buckets = self._values[place + 1 : place + 1 + NUM_BUCKETS]
        return Histogram(float(self._values[place]), tuple(int(count) for count in buckets))


NUMBERS_OF_A_TASK = 8
"""Room for those of each."""


class VitalsTable(SharedTable):
    """The vitals of all processes of a server.

    Attributes:
        device: of the device process.
        frontends: by number; a frontend that replaces another goes on with its numbers.
        info: means of what environments tell of their episodes; of the device process.
        tasks: numbers of each of several tasks, "NUMBER:TASK"; of the device process.
    """

    kept = ("_num_frontends", "info", "tasks")

    def __init__(self, num_frontends: int, num_tasks: int = 1) -> None:
        self._num_frontends = num_frontends
        self.info = NamedNumbers()
        self.tasks = NamedNumbers(NUMBERS_OF_A_TASK * num_tasks)
        self._hold(SharedFile((1 + num_frontends) * _NUM_VALUES * 8))

    @property
    def processes(self) -> dict[str, Vitals]:
        """By the name of the process."""
        return {"device": self.device} | {f"frontend-{i}": vitals for i, vitals in enumerate(self.frontends)}

    def total(self, name: str) -> float:
        """A counter, or a gauge for which that makes sense, over all processes."""
        return sum(vitals[name] for vitals in self.processes.values())

    def numbers_of_tasks(self) -> dict[tuple[str, str], float]:
        """Those of `tasks`, by number and task; NaN for what is not known yet."""
        parted = ((key.partition(":"), value) for key, value in self.tasks.read().items())
        return {(number, task): value for (number, _, task), value in parted}

    def histogram(self, name: str) -> Histogram:
        """A stage over all processes."""
        parts = [vitals.histogram(name) for vitals in self.processes.values()]
        buckets = zip(*(part.buckets for part in parts), strict=True)
        return Histogram(sum(part.sum for part in parts), tuple(map(sum, buckets)))

    def refusals(self) -> dict[str, int]:
        """Errors that ended calls, by class, over all processes."""
        found: dict[str, int] = {}
        for vitals in self.processes.values():
            for name, count in vitals.refusals.items():
                found[name] = found.get(name, 0) + count
        return found

    def _view(self, memory: mmap.mmap) -> None:
        values = memoryview(memory).cast("d")
        parts = [Vitals(values[i * _NUM_VALUES :][:_NUM_VALUES]) for i in range(1 + self._num_frontends)]
        self.device, self.frontends = parts[0], tuple(parts[1:])


def _bucket(value: int) -> int:
    """i such that 2^(i-1) <= value < 2^i."""
    return min(value.bit_length(), NUM_BUCKETS - 1) if value > 0 else 0
