"""The vitals in Prometheus' text format. `METRICS` is the reference of all names, from which docs/reference is made."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from seedbed.common.process_stats import ProcessStats, read_process
from seedbed.server.shared.health import Health, examine, learner_busy_s
from seedbed.server.shared.vitals import NUM_BUCKETS, Histogram, VitalsTable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BATCH_SIZES = "batch_sizes"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What does not change while a server runs, and its vitals.

    Attributes:
        vitals: of all its processes.
        stall_limit_s: see `health.examine`.
        num_slots: environments it has room for.
        frames_per_step: emulator frames of an agent step.
        version: of seedbed.
        replica: rank among several learners, a label of every number; None: there is one.
    """

    vitals: VitalsTable
    stall_limit_s: float
    num_slots: int
    frames_per_step: int
    version: str
    replica: int | None = None

    def health(self) -> Health:
        """As it is now."""
        return examine(self.vitals, self.stall_limit_s, time.monotonic())


Labelled = Mapping[str, float]
"""Value of the one label -> number."""

Read = Callable[[ServerFacts], float | Labelled | Histogram]


@dataclass(frozen=True, slots=True)
class Entry:
    """One metric.

    Attributes:
        name: as Prometheus shows it.
        kind: of metric.
        help: what it counts or measures.
        read: its value; NaN for what is not known yet.
        label: of its values, if there are several.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Read
    label: str | None = None


def _total(name: str) -> Read:
    return lambda facts: facts.vitals.total(name)


def _device(name: str) -> Read:
    return lambda facts: facts.vitals.device[name]


def _histogram(name: str) -> Read:
    return lambda facts: facts.vitals.histogram(name)


def _age(name: str) -> Read:
    """NaN before the first time."""
    return lambda facts: time.monotonic() - (facts.vitals.device[name] or math.nan)


def _after_first_log(name: str) -> Read:
    """Zero would look like a number that was measured."""
    return lambda facts: facts.vitals.device[name] if facts.vitals.device["updates"] else math.nan


def _task(name: str) -> Read:
    """A number of each of several tasks, by the task's name."""

    def read(facts: ServerFacts) -> Labelled:
        found = facts.vitals.numbers_of_tasks().items()
        return {task: value for (number, task), value in found if number == name.removesuffix("_total")}

    return read


_OF_TASKS = {
    "agent_steps_total": "of each of several tasks: answered timesteps that were not LAST, over all starts of the run",
    "frames_total": "the same in emulator frames",
    "environments": "of each task: those that count",
    "return_mean": "of each task: the latest 100 episodes",
    "cohort_return_mean": "of each task: the newest cohort",
    "human_normalised": "of each task: 0 random play, 1 a person, where people were measured",
}


def _processes(number: Callable[[ProcessStats], float]) -> Read:
    def read(facts: ServerFacts) -> Labelled:
        pids = {name: int(vitals["pid"]) for name, vitals in facts.vitals.processes.items()}
        found = {name: read_process(pid) for name, pid in pids.items() if pid}
        return {name: number(stats) for name, stats in found.items() if stats is not None}

    return read


METRICS: tuple[Entry, ...] = (
    Entry("seedbed_ready", "gauge", "1 while /readyz says so", lambda facts: facts.health().ready),
    Entry("seedbed_live", "gauge", "1 while /healthz says so", lambda facts: facts.health().live),
    Entry("seedbed_info", "gauge", "always 1", lambda facts: {facts.version: 1.0}, "version"),
    Entry("seedbed_uptime_seconds", "gauge", "since the start of the device process", _age("started_s")),
    Entry("seedbed_agent_steps_total", "counter", "answered timesteps that were not LAST", _total("agent_steps")),
    Entry(
        "seedbed_env_frames_total",
        "counter",
        "the same in emulator frames",
        lambda facts: facts.vitals.total("agent_steps") * facts.frames_per_step,
    ),
    Entry("seedbed_episodes_total", "counter", "episodes that ended", _total("episodes")),
    Entry(
        "seedbed_episodes_refused_total",
        "counter",
        "ends that clients told of and the rows of these episodes do not say",
        _total("episodes_refused"),
    ),
    Entry("seedbed_episode_return_mean", "gauge", "over the latest 100", _after_first_log("episode_return_mean")),
    Entry(
        "seedbed_episode_info_mean",
        "gauge",
        "numbers of the environment's own, over the latest 100 episodes that had them",
        lambda facts: facts.vitals.info.read(),
        "name",
    ),
    Entry("seedbed_cohort_return_mean", "gauge", "of the newest cohort", _after_first_log("cohort_return_mean")),
    *(
        Entry(f"seedbed_task_{name}", "counter" if name.endswith("_total") else "gauge", text, _task(name), "task")
        for name, text in _OF_TASKS.items()
    ),
    Entry("seedbed_clients_connected", "gauge", "client processes that hold a live lease", _device("clients")),
    Entry("seedbed_streams", "gauge", "open Act calls", _total("streams")),
    Entry("seedbed_slots_in_use", "gauge", "slots under a lease, live or in grace", _device("used_rows")),
    Entry("seedbed_slots_live", "gauge", "slots whose lease has a stream", _device("live_rows")),
    Entry("seedbed_slots", "gauge", "environments there is room for", lambda facts: facts.num_slots),
    Entry("seedbed_messages_total", "counter", "Steps accepted", _total("messages")),
    Entry("seedbed_rows_total", "counter", "timesteps in them", _total("rows")),
    Entry("seedbed_received_bytes_total", "counter", "of observations", _total("received_bytes")),
    Entry("seedbed_sent_bytes_total", "counter", "of actions", _total("sent_bytes")),
    Entry(
        "seedbed_messages_rejected_total",
        "counter",
        "errors that ended a call, by the name of the error",
        lambda facts: facts.vitals.refusals(),
        "reason",
    ),
    Entry("seedbed_streams_opened_total", "counter", "Act calls that got a lease", _total("streams_opened")),
    Entry("seedbed_leases_opened_total", "counter", "new leases", _total("leases_opened")),
    Entry("seedbed_reconnects_total", "counter", "leases that went on with another stream", _total("leases_resumed")),
    Entry("seedbed_leases_expired_total", "counter", "leases whose client did not come back", _total("leases_expired")),
    Entry(
        "seedbed_leases_fenced_total",
        "counter",
        "leases that a newer run of their client ended",
        _total("leases_fenced"),
    ),
    Entry(
        "seedbed_frontend_restarts_total",
        "counter",
        "frontends that died and were replaced",
        _total("frontend_restarts"),
    ),
    Entry(
        "seedbed_request_seconds",
        "histogram",
        "a request in the server, from read to its answer handed to gRPC",
        _histogram("residence"),
    ),
    Entry("seedbed_accept_seconds", "histogram", "of it: check, and copy into the slots", _histogram("accept")),
    Entry("seedbed_queue_seconds", "histogram", "of it: from the slots into a batch", _histogram("wait")),
    Entry(
        "seedbed_inference_seconds",
        "histogram",
        "of it: the batch, from its rows to its actions",
        _histogram("inference"),
    ),
    Entry(
        "seedbed_reply_seconds",
        "histogram",
        "of it: from the slots to the frontend that sends them",
        _histogram("reply"),
    ),
    Entry(
        "seedbed_remember_seconds",
        "histogram",
        "bookkeeping of a batch after its actions are out",
        _histogram("remember"),
    ),
    Entry(
        "seedbed_back_pressure_seconds",
        "histogram",
        "complete unrolls into the queue or replay",
        _histogram("back_pressure"),
    ),
    Entry("seedbed_batch_size", "histogram", "rows of an inference batch", _histogram(_BATCH_SIZES)),
    Entry("seedbed_updates_total", "counter", "optimiser steps", _total("updates")),
    Entry(
        "seedbed_lost_updates_total", "counter", "of them, those whose gradient was not finite", _total("lost_updates")
    ),
    Entry("seedbed_update_seconds", "histogram", "one update and its publication", _histogram("update")),
    Entry("seedbed_batch_wait_seconds", "histogram", "the learner waits for a train batch", _histogram("batch_wait")),
    Entry("seedbed_queued_unrolls", "gauge", "unrolls that wait for the learner", _device("queued_unrolls")),
    Entry(
        "seedbed_policy_lag",
        "gauge",
        "mean over the last log interval, in updates",
        _after_first_log("policy_lag_mean"),
    ),
    Entry("seedbed_policy_lag_max", "gauge", "maximum over the last log interval", _after_first_log("policy_lag_max")),
    Entry("seedbed_loss", "gauge", "mean over the last log interval", _after_first_log("loss")),
    Entry(
        "seedbed_learner_update_age_seconds", "gauge", "since the last update; NaN before the first", _age("update_s")
    ),
    Entry(
        "seedbed_learner_step_age_seconds",
        "gauge",
        "how long the learner has had its batch in hand; 0 while it has none",
        lambda facts: learner_busy_s(facts.vitals, time.monotonic()),
    ),
    Entry("seedbed_inference_turn_age_seconds", "gauge", "since the inference thread's last turn", _age("turn_s")),
    Entry("seedbed_main_tick_age_seconds", "gauge", "since the main thread's last turn", _age("tick_s")),
    Entry("seedbed_checkpoints_total", "counter", "checkpoints written", _total("checkpoints")),
    Entry(
        "seedbed_checkpoint_failures_total",
        "counter",
        "attempts to write one that failed",
        _total("checkpoint_failures"),
    ),
    Entry("seedbed_checkpoint_age_seconds", "gauge", "since the last was complete; NaN before", _age("saved_s")),
    Entry(
        "seedbed_process_cpu_seconds_total", "counter", "user and system time", _processes(lambda s: s.cpu_s), "process"
    ),
    Entry(
        "seedbed_process_resident_memory_bytes",
        "gauge",
        "shared pages included",
        _processes(lambda s: s.rss_bytes),
        "process",
    ),
    Entry("seedbed_process_threads", "gauge", "threads", _processes(lambda s: s.num_threads), "process"),
    Entry("seedbed_process_open_files", "gauge", "file descriptors", _processes(lambda s: s.num_files), "process"),
)


def metrics_page(facts: ServerFacts) -> bytes:
    """What Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Vitals(facts))
    return generate_latest(registry)


class _Vitals(Collector):
    def __init__(self, facts: ServerFacts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        common = {} if self._facts.replica is None else {"replica": str(self._facts.replica)}
        return (_family(entry, entry.read(self._facts), common) for entry in METRICS)


def _family(entry: Entry, value: float | Labelled | Histogram, common: Mapping[str, str]) -> Metric:
    """One metric; `common` are the labels of all of them."""
    names, texts = list(common), list(common.values())
    if isinstance(value, Histogram):
        histogram = HistogramMetricFamily(entry.name, entry.help, labels=names)
        histogram.add_metric(texts, _buckets(value, rows=entry.name == "seedbed_batch_size"), value.sum)
        return histogram
    family = CounterMetricFamily if entry.kind == "counter" else GaugeMetricFamily
    metric = family(entry.name, entry.help, labels=[*names, entry.label] if entry.label else names)
    values = value if isinstance(value, Mapping) else {None: value}
    for label, number in values.items():
        metric.add_metric(texts if label is None else [*texts, label], float(number))
    return metric


def _buckets(histogram: Histogram, *, rows: bool) -> list[tuple[str, float]]:
    """Upper bounds with the cumulative counts below them; the last bucket is "all others"."""
    unit = 1.0 if rows else 1e-6
    bounds = [repr(2.0**i * unit) for i in range(NUM_BUCKETS - 1)] + ["+Inf"]
    counts, below = [], 0
    for count in histogram.buckets:
        below += count
        counts.append(float(below))
    return list(zip(bounds, counts, strict=True))
