"""What was measured at one load: figures of a span of time, made from snapshots of all that took part."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from seedbed.common.load_figures import Figures, shares_of
from seedbed.common.server_status import ServerStatus, Stage
from seedbed.env_client.loadtest.latency import Percentiles, percentiles_ms
from seedbed.env_client.loadtest.points import Load
from seedbed.env_client.loadtest.tally import Sample, Tally, difference, total


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All counters at one moment.

    Attributes:
        time_s: a monotonic time.
        drivers: one sample each.
        statuses: each server's; none if they have none to give.
        machine_busy_s: see `cpu.busy_s`.
    """

    time_s: float
    drivers: Sequence[Sample]
    statuses: tuple[ServerStatus, ...]
    machine_busy_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFigures:
    """One process.

    Attributes:
        cores: mean number of cores it kept busy.
        cpu_us_per_step: CPU time for each agent step of the whole test.
        rss_mib: memory at the end.
    """

    cores: float
    cpu_us_per_step: float
    rss_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Figures of one load. What the server did not say is None or missing.

    Attributes:
        load: what was asked.
        seconds, windows, stable: how long it was measured, in how many windows, and whether the last ones agreed.
        agent_steps_per_s, frames_per_s, messages_per_s: over all clients.
        sent_bytes_per_s, received_bytes_per_s: by the clients; messages, without what gRPC and TCP add.
        latency_ms: from when timesteps were due to their actions.
        round_trip_ms: where the mean of it goes, by stage, in order:
            behind     open loop: the client was late, because it waited for an earlier answer
            client     packing the message, and waiting until the client's event loop comes round
            network    the frontend, gRPC and the network, both ways
            wait       rows in the slots, until their inference batch is taken
            inference  the batch they are in
            reply      actions in the slots, until the frontend has them
          Without figures of the server "network" holds all that is not the client's.
        batch_rows_mean, batch_sizes: inference batches; keys are the largest size in each bucket.
        inference_busy: share of time in which the inference thread computed or kept books.
        learner_busy: share of time in which the learner made updates.
        back_pressure: share of time in which it waited for room in the learner's queue.
        updates_per_s: of the learner. Of several servers these four are the greatest, each by itself.
        stepping: share of their time that clients spent in their environments.
        machine_busy, machine_cores: share of this machine's cores in use, by anybody, and how many there are.
        server_is_here: whether the server runs on this machine too.
        processes: by name; those of several servers as "device@0", "device@1" ...
        errors: what went wrong, by kind; `error_example` is the newest kind's text, which tends to be the cause.
    """

    load: Load
    seconds: float
    windows: int
    stable: bool
    agent_steps_per_s: float
    frames_per_s: float
    messages_per_s: float
    sent_bytes_per_s: float
    received_bytes_per_s: float
    latency_ms: Percentiles
    round_trip_ms: Mapping[str, float]
    batch_rows_mean: float | None
    batch_sizes: Mapping[str, int]
    inference_busy: float | None
    learner_busy: float | None
    back_pressure: float | None
    updates_per_s: float | None
    stepping: float
    machine_busy: float
    machine_cores: int
    server_is_here: bool
    processes: Mapping[str, ProcessFigures]
    errors: Mapping[str, int]
    error_example: str

    def to_json(self) -> dict[str, Any]:
        """Flat where that is natural: what was asked stands beside what came."""
        data = asdict(self)
        return {**data.pop("load"), **data}

    @property
    def figures(self) -> Figures:
        """What a verdict is made of."""
        return Figures(
            agent_steps_per_s=self.agent_steps_per_s,
            inference_busy=self.inference_busy,
            learner_busy=self.learner_busy,
            back_pressure=self.back_pressure,
            updates_per_s=self.updates_per_s,
            batch_rows_mean=self.batch_rows_mean,
            stepping=self.stepping,
            round_trip_ms=self.round_trip_ms,
            machine_busy=self.machine_busy,
            machine_cores=self.machine_cores,
            server_is_here=self.server_is_here,
            processes={name: use.cores for name, use in self.processes.items()},
            synthetic=True,
            rate=self.load.rate,
            p99_ms=self.latency_ms.p99,
            errors=self.errors,
            error_example=self.error_example,
        )


def throughput(before: Snapshot, after: Snapshot) -> float:
    """Agent steps/s between two snapshots, each driver by its own clock readings."""
    return sum(
        (now.tally.agent_steps - then.tally.agent_steps) / max(1e-9, now.time_s - then.time_s)
        for then, now in zip(before.drivers, after.drivers, strict=True)
    )


def tally_between(before: Snapshot, after: Snapshot) -> Tally:
    """What all drivers counted between two snapshots."""
    pairs = zip(before.drivers, after.drivers, strict=True)
    return total([difference(now.tally, then.tally) for then, now in pairs])


def measure(
    load: Load,
    snapshots: Sequence[Snapshot],
    errors: Tally,
    *,
    stable: bool,
    frames_per_step: int,
    num_cores: int,
    server_is_here: bool,
) -> Measurement:
    """Makes figures of the time from the first snapshot to the last.

    Args:
        load: what was asked.
        snapshots: at the ends of windows, at least two.
        errors: a tally that covers the whole load, its start included.
        stable: whether the windows agreed.
        frames_per_step: of the environment.
        num_cores: of this machine.
        server_is_here: whether the server runs on it too.
    """
    before, after = snapshots[0], snapshots[-1]
    seconds = after.time_s - before.time_s
    counted = tally_between(before, after)
    servers = _happened(before.statuses, after.statuses)
    steps_per_s = throughput(before, after)
    return Measurement(
        load=load,
        seconds=seconds,
        windows=len(snapshots) - 1,
        stable=stable,
        agent_steps_per_s=steps_per_s,
        frames_per_s=steps_per_s * frames_per_step,
        messages_per_s=counted.messages / seconds,
        sent_bytes_per_s=counted.sent_bytes / seconds,
        received_bytes_per_s=counted.received_bytes / seconds,
        latency_ms=percentiles_ms(counted.latency),
        round_trip_ms=_round_trip(counted, servers, open_loop=load.rate is not None),
        stepping=counted.stepping_s / (load.clients * seconds) if load.rate is None else 0.0,
        machine_busy=(after.machine_busy_s - before.machine_busy_s) / (num_cores * seconds),
        machine_cores=num_cores,
        server_is_here=server_is_here,
        processes=_processes(before, after, servers, counted.agent_steps),
        errors=dict(errors.errors),
        error_example=next(reversed(errors.examples.values()), ""),
        **_server_figures(servers),
    )


def _happened(before: Sequence[ServerStatus], after: Sequence[ServerStatus]) -> list[ServerStatus]:
    """Of each server; nothing if one of them told nothing, or was restarted."""
    if len(before) != len(after):
        return []
    found = [now.since(then) for then, now in zip(before, after, strict=True)]
    told = [one for one in found if one is not None]
    return told if len(told) == len(found) else []


def _round_trip(counted: Tally, servers: Sequence[ServerStatus], *, open_loop: bool) -> dict[str, float]:
    """See `Measurement.round_trip_ms`. Stages are measured apart: what they leave over is the network's."""
    messages = max(1, counted.messages)
    exchange_ms = counted.exchange_s / messages * 1000
    lag_ms = counted.lag_s / max(1, counted.lags) * 1000
    client_ms = min(exchange_ms, counted.pack_s / messages * 1000 + lag_ms)
    stages = {name: _mean_ms(servers, name) for name in ("wait", "inference", "reply")} if servers else {}
    behind = {"behind": max(0.0, counted.latency_s / messages * 1000 - exchange_ms)} if open_loop else {}
    network_ms = max(0.0, exchange_ms - client_ms - sum(stages.values()))
    return {**behind, "client": client_ms, "network": network_ms, **stages}


def _mean_ms(servers: Sequence[ServerStatus], stage: str) -> float:
    stages = [server.stage(stage) for server in servers]
    return Stage(sum(one.sum_s for one in stages), sum(one.count for one in stages)).mean_ms


def _server_figures(servers: Sequence[ServerStatus]) -> dict[str, Any]:
    shares = [asdict(shares_of(server)) for server in servers] or [asdict(shares_of(None))]
    busiest = {
        name: max((one[name] for one in shares if one[name] is not None), default=None)
        for name in ("inference_busy", "learner_busy", "back_pressure", "updates_per_s")
    }
    batches = sum(server.counters.get("batches", 0.0) for server in servers)
    rows = sum(server.counters.get("batch_rows", 0.0) for server in servers)
    sizes = [sum(counts) for counts in zip(*(server.batch_sizes for server in servers), strict=False)]
    return {
        **busiest,
        "batch_rows_mean": rows / batches if batches else None,
        "batch_sizes": {str(1 << bucket): count for bucket, count in enumerate(sizes) if count},
    }


def _processes(
    before: Snapshot, after: Snapshot, servers: Sequence[ServerStatus], agent_steps: int
) -> dict[str, ProcessFigures]:
    """Drivers first, then the servers' processes."""
    used: dict[str, tuple[float, float, int]] = {}
    for number, (then, now) in enumerate(zip(before.drivers, after.drivers, strict=True)):
        used[f"driver-{number}"] = (now.cpu_s - then.cpu_s, now.time_s - then.time_s, now.rss_bytes)
    for number, server in enumerate(servers):
        which = f"@{number}" if len(servers) > 1 else ""
        used |= {
            f"{name}{which}": (use.cpu_s, server.uptime_s, use.rss_bytes) for name, use in server.processes.items()
        }
    return {
        name: ProcessFigures(
            cores=cpu_s / max(1e-9, seconds),
            cpu_us_per_step=cpu_s / max(1, agent_steps) * 1e6,
            rss_mib=rss_bytes / 2**20,
        )
        for name, (cpu_s, seconds, rss_bytes) in used.items()
    }


def is_stable(snapshots: Sequence[Snapshot], num_windows: int, tolerance: float) -> bool:
    """Whether throughput and median latency of the last windows each lie within a tolerance of their mean.

    Args:
        snapshots: at the ends of windows.
        num_windows: how many must agree.
        tolerance: relative.
    """
    recent = snapshots[-num_windows - 1 :]
    if len(recent) <= num_windows:
        return False
    pairs = list(itertools.pairwise(recent))
    rates = [throughput(*pair) for pair in pairs]
    medians = [percentiles_ms(tally_between(*pair).latency).p50 for pair in pairs]
    return all(_agree(values, tolerance) for values in (rates, medians))


def _agree(values: Sequence[float], tolerance: float) -> bool:
    mean = sum(values) / len(values)
    return mean > 0 and all(abs(value - mean) <= tolerance * mean for value in values)
