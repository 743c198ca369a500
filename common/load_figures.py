"""Figures of a server and its clients over a span of time: what a verdict on the bottleneck is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seedbed.common.server_status import ServerStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Figures of a span of time. What nobody told is None or missing.

    Attributes:
        agent_steps_per_s: over all clients.
        inference_busy: share of time in which the inference thread computed or kept books.
        learner_busy: share of time in which the learner made updates.
        back_pressure: share of time in which inference waited for room in the learner's queue.
        updates_per_s: of the learner.
        batch_rows_mean: rows of an inference batch.
        stepping: share of their time that clients spent in their environments, and on the way.
        streams: of clients; None where that is not asked.
        round_trip_ms: where the mean of a round trip goes, by stage, see `Measurement`.
        machine_busy, machine_cores: share of this machine's cores in use, by anybody, and how many there are; no share
            where the server runs elsewhere and so do its clients.
        server_is_here: whether the server runs on this machine.
        processes: cores that each known process kept busy, by names such as "driver-0", "device" and "frontend-0".
        synthetic: clients are those of a load test.
        rate: agent steps/s that were asked for; None: as many as come.
        p99_ms: of the latency.
        errors, error_example: what went wrong, by kind, and one text of it.
    """

    agent_steps_per_s: float
    inference_busy: float | None = None
    learner_busy: float | None = None
    back_pressure: float | None = None
    updates_per_s: float | None = None
    batch_rows_mean: float | None = None
    stepping: float = 0.0
    streams: int | None = None
    round_trip_ms: Mapping[str, float] = field(default_factory=dict)
    machine_busy: float | None = None
    machine_cores: int = 1
    server_is_here: bool = True
    processes: Mapping[str, float] = field(default_factory=dict)
    synthetic: bool = False
    rate: int | None = None
    p99_ms: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)
    error_example: str = ""

    def busiest(self, kind: str) -> float:
        """Cores that the busiest process of a kind kept busy, such as "driver" or "frontend"; 0 if there is none."""
        return max((cores for name, cores in self.processes.items() if name.startswith(kind)), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerShares:
    """Shares of time, rates and means of a server over a span of time; None where nothing happened or is told."""

    inference_busy: float | None = None
    learner_busy: float | None = None
    back_pressure: float | None = None
    updates_per_s: float | None = None
    batch_rows_mean: float | None = None


def shares_of(server: ServerStatus | None) -> ServerShares:
    """Of what happened between two answers of a server, see `ServerStatus.since`."""
    if server is None or server.uptime_s <= 0:
        return ServerShares()
    batches = server.counters.get("batches", 0.0)
    busy_s = server.stage("inference").sum_s + server.stage("remember").sum_s
    waits = server.hands_over and not batches

    def share(seconds: float) -> float:
        """What takes longer than the span is counted when it ends, all of it."""
        return min(1.0, seconds / server.uptime_s)

    return ServerShares(
        inference_busy=share(busy_s),
        learner_busy=share(server.stage("update").sum_s),
        back_pressure=1.0 if waits else share(server.stage("back_pressure").sum_s),
        updates_per_s=server.counters.get("updates", 0.0) / server.uptime_s,
        batch_rows_mean=server.counters.get("batch_rows", 0.0) / batches if batches else None,
    )


def figures_of(server: ServerStatus, *, machine_busy: float | None, num_cores: int) -> Figures:
    """Figures of a server whose clients tell nothing.

    A stream has one request at a time. So (Little's law) requests/s times their mean time in the server is how many are
    there at any moment, and all other streams are with their environments, or on the way.

    Args:
        server: what happened in a span of time.
        machine_busy: share of this machine's cores in use; None: the server runs elsewhere.
        num_cores: of this machine.
    """
    shares, seconds = shares_of(server), max(1e-9, server.uptime_s)
    residence, messages_per_s = server.stage("residence"), server.counters.get("messages", 0.0) / seconds
    streams = server.streams
    inside = min(1.0, messages_per_s * residence.mean_ms / 1000 / streams) if streams else 0.0
    stages = {name: server.stage(name).mean_ms for name in ("wait", "inference", "reply")}
    elsewhere_ms = (streams / messages_per_s * 1000 - residence.mean_ms) if messages_per_s else 0.0
    return Figures(
        agent_steps_per_s=server.counters.get("agent_steps", 0.0) / seconds,
        inference_busy=shares.inference_busy,
        learner_busy=shares.learner_busy,
        back_pressure=shares.back_pressure,
        updates_per_s=shares.updates_per_s,
        batch_rows_mean=shares.batch_rows_mean,
        stepping=1.0 - inside if messages_per_s else 0.0,
        streams=streams if messages_per_s or server.hands_over else 0,
        round_trip_ms={
            "environments": max(0.0, elsewhere_ms),
            "frontend": max(0.0, residence.mean_ms - sum(stages.values())),
            **stages,
        },
        machine_busy=machine_busy,
        machine_cores=num_cores,
        server_is_here=machine_busy is not None,
        processes={name: use.cpu_s / seconds for name, use in server.processes.items()},
    )
