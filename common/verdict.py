"""Which stage is the bottleneck, and what to change: a pure function of figures of a span of time.

A load test, the dashboard and `seedbed doctor` judge by it. Nothing is guessed: where no figure points to a stage the
verdict is "unknown", and says what came nearest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from seedbed.common.load_figures import Figures

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
