"""Figures of a server between two answers to `Status`: what `seedbed top` shows. No clock, no socket, no terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seedbed.common import cpu
from seedbed.common.load_figures import figures_of
from seedbed.common.server_status import ServerStatus, status_from_message
from seedbed.common.verdict import Verdict, judge
from seedbed.proto import seedbed_pb2 as pb

STAGES = (
    "residence",
    "accept",
    "wait",
    "inference",
    "reply",
    "remember",
    "back_pressure",
    "batch_wait",
    "update",
)
"""In the order of a request, a batch and an update; others follow."""

_OF_A_THREAD = ("inference", "remember", "back_pressure", "batch_wait", "update")

_TASK = "task/"
"""What the names of gauges begin with that are a task's own: "task/NAME/NUMBER"."""

_LEARNT = ("episode_return_mean", "policy_lag_mean", "policy_lag_max", "loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFigures:
    """One client, as the server sees it. None: not known yet.

    Attributes:
        client, host: its name and address.
        environments: that it steps.
        state: "live", "grace" (connection lost, may come back) or "stalled" (has not stepped for long).
        since_s: since it joined.
        steps_per_s: timesteps of it that were answered.
        think_ms: what it needs from an answer to its next message: the figure that finds a slow machine.
        reconnects: how often its streams were resumed.
        last_seen_s: since its newest message.
    """

    client: str
    host: str
    environments: int
    state: str
    since_s: float
    steps_per_s: float | None
    think_ms: float | None
    reconnects: int
    last_seen_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFigures:
    """One of several tasks. None: not known yet.

    Attributes:
        name: of the task.
        environments: that play it and count.
        agent_steps: of the run so far.
        share: of all frames of the run.
        return_mean: of the latest 100 episodes.
        cohort_return_mean: of the newest cohort.
        score: human-normalised, 0 random play and 1 a person.
    """

    name: str
    environments: int
    agent_steps: int
    share: float | None = None
    return_mean: float | None = None
    cohort_return_mean: float | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFigures:
    """One stage: its mean duration, and the share of its thread's time; None where requests pass it side by side."""

    mean_ms: float
    share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A server over some time.

    Attributes:
        run, version: of the run directory, and of the server.
        phase: "serving", for instance.
        uptime_s: of the server.
        environments, room: that are held by clients, and how many there is room for.
        streams, queued_unrolls: now.
        rates: per second, by the name of the counter; "frames" beside them.
        batch_rows: mean of an inference batch; None where there was none.
        stages: those that happened, in order.
        cores, memory_bytes: of each process of the server.
        verdict: what holds it up.
        learnt: return, lag and loss, where the server has them.
        tasks: of a run of several, by name.
        clients: of the fleet; None if there are none, or the server tells nothing of them.
    """

    run: str
    version: str
    phase: str
    uptime_s: float
    environments: int
    room: int
    streams: int
    queued_unrolls: int
    rates: Mapping[str, float]
    batch_rows: float | None
    stages: Mapping[str, StageFigures]
    cores: Mapping[str, float]
    memory_bytes: Mapping[str, int]
    verdict: Verdict
    learnt: Mapping[str, float] = field(default_factory=dict)
    tasks: Sequence[TaskFigures] = ()
    clients: Sequence[ClientFigures] | None = None


def figures_between(
    before: pb.StatusResponse, after: pb.StatusResponse, elapsed_s: float, machine_busy: float | None = None
) -> Figures | None:
    """What happened between two answers; None if the server was restarted in between.

    Args:
        before, after: the answers.
        elapsed_s: between them.
        machine_busy: share of this machine's cores in use; None where the server runs elsewhere.
    """
    now = status_from_message(after)
    span = now.since(status_from_message(before))
    if span is None or elapsed_s <= 0:
        return None
    rates = {name: count / elapsed_s for name, count in span.counters.items()}
    rates["frames"] = rates.get("agent_steps", 0.0) * after.gauges["frames_per_step"]
    batches = span.counters.get("batches", 0.0)
    return Figures(
        run=after.run_name,
        version=after.server_version,
        phase=pb.StatusResponse.Phase.Name(after.phase).removeprefix("PHASE_").lower(),
        uptime_s=after.uptime_s,
        environments=now.used_slots,
        room=now.num_slots,
        streams=int(after.gauges["streams"]),
        queued_unrolls=int(after.gauges["queued_unrolls"]),
        rates=rates,
        batch_rows=span.counters.get("batch_rows", 0.0) / batches if batches else None,
        stages=_stages(span, elapsed_s),
        cores={name: use.cpu_s / elapsed_s for name, use in span.processes.items()},
        memory_bytes={name: use.rss_bytes for name, use in span.processes.items()},
        verdict=judge(figures_of(span, machine_busy=machine_busy, num_cores=cpu.NUM_CORES)),
        clients=[_client(one) for one in after.clients] or None,
        tasks=_tasks(after.gauges),
        learnt={name: after.gauges[name] for name in _LEARNT if math.isfinite(after.gauges.get(name, math.nan))},
    )


def _tasks(gauges: Mapping[str, float]) -> list[TaskFigures]:
    numbers: dict[str, dict[str, float]] = {}
    for key in gauges:
        if key.startswith(_TASK):  # names of tasks may have slashes of their own
            task, _, number = key.removeprefix(_TASK).rpartition("/")
            numbers.setdefault(task, {})[number] = gauges[key]
    frames = sum(one.get("frames", 0.0) for one in numbers.values())
    return [
        TaskFigures(
            name=task,
            environments=int(own.get("environments", 0)),
            agent_steps=int(own.get("agent_steps", 0)),
            share=own.get("frames", 0.0) / frames if frames else None,
            return_mean=own.get("return_mean"),
            cohort_return_mean=own.get("cohort_return_mean"),
            score=own.get("human_normalised"),
        )
        for task, own in sorted(numbers.items())
    ]


def _client(message: pb.ClientStatus) -> ClientFigures:
    return ClientFigures(
        client=message.client_id,
        host=message.host,
        environments=message.environments,
        state=message.state,
        since_s=message.since_s,
        steps_per_s=message.steps_per_s if message.HasField("steps_per_s") else None,
        think_ms=message.think_ms if message.HasField("think_ms") else None,
        reconnects=message.reconnects,
        last_seen_s=message.last_seen_s,
    )


def _stages(span: ServerStatus, elapsed_s: float) -> dict[str, StageFigures]:
    names = [*STAGES, *(name for name in span.stages if name not in STAGES)]
    return {
        name: StageFigures(
            mean_ms=stage.mean_ms, share=min(1.0, stage.sum_s / elapsed_s) if name in _OF_A_THREAD else None
        )
        for name in names
        if (stage := span.stage(name)).count
    }
