"""Figures of a server over the last seconds: totals, rates, how long each stage takes, who is busy, the bottleneck."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict
from typing import Any, NamedTuple

from seedbed.common import cpu
from seedbed.common.load_figures import figures_of
from seedbed.common.process_stats import read_process
from seedbed.common.server_status import ProcessUse, ServerStatus, Stage
from seedbed.common.verdict import judge
from seedbed.server.dashboard.facts import DashboardFacts
from seedbed.server.shared.vitals import COUNTERS, STAGES, Phase, VitalsTable

_EVERY_S = 0.9
"""Least time between two snapshots: several viewers share one."""

_SOON_S = 0.2
"""The same for the second one, without which there is no rate."""

_SPAN_S = 5.0
"""Rates are over about so long."""


class Snapshot(NamedTuple):
    """Counters at one moment of the monotonic clock; see `cpu.busy_s` for the last."""

    time_s: float
    status: ServerStatus
    machine_busy_s: float


def status_of(vitals: VitalsTable, num_slots: int, now_s: float) -> ServerStatus:
    """What the server would answer to the call Status now."""
    histograms = {name: vitals.histogram(name) for name in STAGES}
    processes = {name: read_process(int(one["pid"])) for name, one in vitals.processes.items() if one["pid"]}
    return ServerStatus(
        uptime_s=now_s - vitals.device["started_s"],
        num_slots=num_slots,
        used_slots=int(vitals.device["used_rows"]),
        streams=int(vitals.total("streams")),
        counters={name: vitals.total(name) for name in COUNTERS},
        stages={name: Stage(found.sum, found.count) for name, found in histograms.items()},
        batch_sizes=vitals.device.histogram("batch_sizes").buckets,
        processes={name: ProcessUse(stats.cpu_s, stats.rss_bytes) for name, stats in processes.items() if stats},
        hands_over=bool(vitals.device["hands_over"]),
    )


class Figures:
    """Snapshots of the last seconds, and what follows from them."""

    def __init__(self, facts: DashboardFacts) -> None:
        """None taken yet."""
        self._facts = facts
        self._snapshots: deque[Snapshot] = deque()
        self._seq = 0

    @property
    def num_snapshots(self) -> int:
        """Two are needed for a rate."""
        return len(self._snapshots)

    def look(self) -> None:
        """Takes a snapshot, unless the last one is new enough; forgets those that nobody needs."""
        now_s = time.monotonic()
        snapshots = self._snapshots
        if snapshots and now_s - snapshots[-1].time_s > 2 * _SPAN_S:
            snapshots.clear()  # nobody has asked for long: what was then is no rate of now
        if snapshots and now_s - snapshots[-1].time_s < (_EVERY_S if len(snapshots) > 1 else _SOON_S):
            return
        status = status_of(self._facts.vitals, self._facts.slots.num_slots, now_s)
        snapshots.append(Snapshot(now_s, status, cpu.busy_s()))
        self._seq += 1
        while len(snapshots) > 2 and snapshots[1].time_s <= now_s - _SPAN_S:
            snapshots.popleft()

    def to_json(self, newest: dict[str, Any]) -> dict[str, Any]:
        """All of it.

        Args:
            newest: line of metrics.jsonl, for what vitals do not have.
        """
        facts, run, device = self._facts, self._facts.run, self._facts.vitals.device
        before, after = self._snapshots[0], self._snapshots[-1]
        happened = after.status.since(before.status)
        assert happened is not None, "snapshots are of one server"
        seconds = after.time_s - before.time_s
        busy = (after.machine_busy_s - before.machine_busy_s) / (cpu.NUM_CORES * seconds) if seconds else None
        steps = run.agent_steps + int(device["agent_steps"])
        rates = self._rates(happened)
        verdict = judge(figures_of(happened, machine_busy=busy, num_cores=cpu.NUM_CORES)) if seconds else None
        return {
            "seq": self._seq,
            "now_s": after.time_s,
            "phase": Phase(int(device["phase"])).name.lower(),
            "totals": {
                "agent_steps": steps,
                "frames": steps * facts.spec.frames_per_step,
                "episodes": max(int(newest.get("episodes") or 0), int(device["episodes"])),
                "updates": run.updates + int(device["updates"]),
            },
            "rates": rates,
            "left_s": self._left_s(steps, rates["steps_per_s"]),
            "gauges": self._gauges(newest),
            "stages_ms": {
                name: happened.stage(name).mean_ms if happened.stage(name).count else None for name in STAGES
            },
            "busy": _busy(happened, busy),
            "verdict": verdict and asdict(verdict),
        }

    def _rates(self, happened: ServerStatus) -> dict[str, float | None]:
        seconds, counted = happened.uptime_s, happened.counters

        def rate(name: str, factor: float = 1.0) -> float | None:
            return factor * counted[name] / seconds if seconds > 0 else None

        return {
            "steps_per_s": rate("agent_steps"),
            "frames_per_s": rate("agent_steps", self._facts.spec.frames_per_step),
            "updates_per_s": rate("updates"),
            "episodes_per_s": rate("episodes"),
            "rows_per_batch": counted["batch_rows"] / counted["batches"] if counted["batches"] else None,
        }

    def _left_s(self, steps: int, steps_per_s: float | None) -> float | None:
        """Until the run's last step at this rate, or its last second."""
        run, device = self._facts.run, self._facts.vitals.device
        left = [] if not steps_per_s else [max(0, run.max_steps - steps) / steps_per_s]
        if run.max_seconds is not None:
            past_s = run.wall_s + time.monotonic() - device["started_s"]
            left.append(max(0.0, run.max_seconds - past_s))
        return min(left, default=None)

    def _gauges(self, newest: dict[str, Any]) -> dict[str, float | None]:
        device = self._facts.vitals.device
        learnt = bool(device["updates"])  # before the first update zeros mean nothing
        return {
            "return": newest.get("episode_return_mean"),
            "cohort_return": newest.get("cohort_return_mean"),
            "lag": device["policy_lag_mean"] if learnt else None,
            "lag_max": device["policy_lag_max"] if learnt else None,
            "queued_unrolls": int(device["queued_unrolls"]),
            "loss": device["loss"] if learnt else None,
            "entropy": newest.get("entropy"),
            "clients": int(device["clients"]),
            "environments": int(device["live_rows"]),
            "slots_in_use": int(device["used_rows"]),
            "num_slots": self._facts.slots.num_slots,
        }


def _busy(happened: ServerStatus, machine: float | None) -> dict[str, float | None]:
    """Shares of time in which the two threads had work, of all cores, and cores that each process kept busy."""
    seconds = happened.uptime_s
    if seconds <= 0:
        return {}
    inference_s = happened.stage("inference").sum_s + happened.stage("remember").sum_s
    return {
        "inference": min(1.0, inference_s / seconds),
        "learner": min(1.0, happened.stage("update").sum_s / seconds),
        "machine": machine,
        **{name: use.cpu_s / seconds for name, use in happened.processes.items()},
    }
