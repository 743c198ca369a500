"""Which stage is the bottleneck, and what to change: a pure function of figures of a span of time.

A load test, the dashboard and `seedbed doctor` judge by it. Nothing is guessed: where no figure points to a stage the
verdict is "unknown", and says what came nearest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from seedbed.common.server_status import ServerStatus

Cause = Literal[
    "errors",
    "clients",
    "frontend",
    "inference",
    "learner",
    "machine",
    "environments",
    "waiting",
    "latency",
    "rate",
    "none",
    "idle",
    "unknown",
]
"""A stage that holds everything up, or what else there is to say: "errors" (fix them first), "latency" (nothing is
saturated, the clients wait for round trips), "rate" (open loop: not reached, for no known reason), "none" (open loop:
the rate is reached), "idle" (nobody asks for anything)."""

_SATURATED = 0.85
"""Cores of a process whose one event loop does all its work: beyond this its queue grows."""

_INFERENCE_SATURATED = 0.8
"""Share of time in batches. The thread also reads requests and wakes frontends, which no stage counts."""

_MACHINE_SATURATED = 0.95
_BACK_PRESSURE = 0.1
"""Share of time in which the inference thread waited for the learner. A learner that keeps up makes it wait for nothing
but the copying of unrolls, which is about 0.01."""

_HEADROOM = 0.7
"""A stage below this has room: more load would get more out of it."""

_RATE_REACHED = 0.97

_STAGE_NAMES = {
    "behind": "being late",
    "environments": "the environment or the network",
    "frontend": "the frontend",
    "client": "the client",
    "network": "the frontend and the network",
    "wait": "waiting for a batch",
    "inference": "inference",
    "reply": "the reply",
}


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What limits a load.

    Attributes:
        stage: see `Cause`.
        reason: the figures that say so.
        change: what to do about it.
    """

    stage: Cause
    reason: str
    change: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}. {self.change}."


def judge(found: Figures) -> Verdict:
    """The bottleneck."""
    verdict = _errors(found) or _idle(found) or _saturated(found) or _not_saturated(found)
    rate = found.rate
    if rate is None or verdict.stage == "errors":
        return verdict
    if found.agent_steps_per_s >= _RATE_REACHED * rate:
        behind = f"p99 {found.p99_ms:.1f} ms"
        return Verdict("none", f"{rate:,} agent steps/s are sustained, {behind}", "Ask for more to find the limit")
    missed = f"of {rate:,} agent steps/s asked, {found.agent_steps_per_s:,.0f} came"
    if verdict.stage in ("latency", "unknown"):
        change = "Spread the rate over more clients, since each has one message in flight, or lower it"
        return Verdict("rate", f"{missed}; {verdict.reason}", change)
    return replace(verdict, reason=f"{missed}; {verdict.reason}")


def _errors(found: Figures) -> Verdict | None:
    if not found.errors:
        return None
    counts = ", ".join(f"{count} x {kind}" for kind, count in found.errors.items())
    return Verdict("errors", f"{counts}: {found.error_example}", "Mend that first: figures beside errors mean little")


def _idle(found: Figures) -> Verdict | None:
    if found.streams != 0:
        return None
    return Verdict("idle", "no environment asks for an action", "Start clients: seedbed env --server HOST:PORT")


def _saturated(found: Figures) -> Verdict | None:
    """The stage that is full, looked for from the outside in: a full stage starves those behind it."""
    if (busy := found.busiest("driver")) >= _SATURATED:
        change = "Raise --processes where this machine has cores left, or send part of the load from another machine"
        return Verdict("clients", f"a process of synthetic clients keeps {busy:.2f} cores busy", change)
    if (share := found.back_pressure or 0.0) >= _BACK_PRESSURE:
        updates = f"{found.updates_per_s or 0:.1f} updates/s"
        reason = f"inference stood still {share:.0%} of the time, waiting for the learner, which made {updates}"
        change = "Learn on a faster device or with a smaller network; --no-train shows what serving alone could do"
        return Verdict("learner", reason, change)
    if (busy := found.busiest("frontend")) >= _SATURATED:
        change = "Raise --frontends of the server, or put more environments in each client: a frontend pays by message"
        return Verdict("frontend", f"a frontend keeps {busy:.2f} cores busy", change)
    inference = found.inference_busy or 0.0
    machine_full = (found.machine_busy or 0.0) >= _MACHINE_SATURATED
    if inference >= _INFERENCE_SATURATED and (not machine_full or found.busiest("device") >= _SATURATED):
        reason = f"the inference thread is busy {inference:.0%} of the time, with {_batch(found)}"
        change = "Use a GPU, a smaller network, larger batches (more environments at once) or bfloat16"
        return Verdict("inference", reason, change)
    if machine_full:
        return _machine(found)
    return None


def _machine(found: Figures) -> Verdict:
    cores = {"synthetic clients": 0.0, "the server": 0.0}
    for name, used in found.processes.items():
        cores["synthetic clients" if name.startswith("driver") else "the server"] += used
    busy = (found.machine_busy or 0.0) * found.machine_cores
    if not found.synthetic:
        return _shared_machine(found, busy, cores["the server"])
    reason = f"{busy:.2f} of this machine's {found.machine_cores} cores are busy"
    if not found.server_is_here:
        used = cores["synthetic clients"]
        return Verdict(
            "clients",
            f"{reason}, {used:.2f} of them with synthetic clients",
            "Send part of the load from another machine",
        )
    cores["other programs"] = max(0.0, busy - sum(cores.values()))
    parts = ", ".join(f"{who} {used:.2f}" for who, used in cores.items())
    return Verdict(
        "machine", f"{reason}: {parts}", "Move clients and server apart, stop what else runs here, or use more cores"
    )


def _shared_machine(found: Figures, busy: float, server: float) -> Verdict:
    """A server, and perhaps its environments, that fill a machine."""
    reason = (
        f"inference is busy {found.inference_busy or 0:.0%}, the learner {found.learner_busy or 0:.0%}, all cores "
        f"{found.machine_busy or 0:.0%}: the server takes {server:.2f} of {found.machine_cores}"
    )
    if busy - server >= server:
        return Verdict("environments", reason, "More cores, or more machines, for environments")
    return Verdict("machine", reason, "Environments on other machines, more cores, or a GPU")


def _not_saturated(found: Figures) -> Verdict:
    if found.rate is None and found.stepping >= 0.5:
        reason = f"clients spend {found.stepping:.0%} of their time in their environments"
        if not found.synthetic:
            reason += f"; inference is busy {found.inference_busy or 0:.0%}, the learner {found.learner_busy or 0:.0%}"
        return Verdict("environments", reason, "More clients, or faster environments: the server has time left")
    stage, longest_ms = max(found.round_trip_ms.items(), key=lambda item: item[1])
    mean_ms = sum(found.round_trip_ms.values())
    where = f"{_STAGE_NAMES[stage]} takes {longest_ms:.2f} of {mean_ms:.2f} ms of a round trip"
    if found.inference_busy is None:
        reason = "the server tells nothing about itself (protocol 1.0), and the clients are not saturated"
        return Verdict("unknown", reason, "Upgrade the server")
    nearest, share = max(_shares(found).items(), key=lambda item: item[1])
    if share >= _HEADROOM:
        reason = f"no stage is full; {nearest} comes nearest with {share:.0%}; {where}"
        return Verdict("unknown", reason, "Add clients until one stage stands out")
    if stage == "wait" and longest_ms >= mean_ms / 2:
        reason = f"{where} while the inference thread is busy {found.inference_busy:.0%} of the time; {_batch(found)}"
        change = "Let batches close sooner: --no-wait-when-idle, or a smaller --max-wait-ms"
        return Verdict("waiting", reason, change)
    change = "Add clients: there is room"
    if stage == "network":
        change += "; or bring clients and server nearer to each other, and put more environments in each client"
    return Verdict("latency", f"nothing is saturated, clients wait for round trips: {where}", change)


def _shares(found: Figures) -> dict[str, float]:
    """How full each stage is."""
    return {
        "the synthetic clients": found.busiest("driver"),
        "the frontend": found.busiest("frontend"),
        "inference": found.inference_busy or 0.0,
        "this machine": found.machine_busy or 0.0,
    }


def _batch(found: Figures) -> str:
    return f"{found.batch_rows_mean or 0:.1f} rows in a batch"
