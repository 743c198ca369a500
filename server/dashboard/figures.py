"""Figures of a server over the last seconds: totals, rates, how long each stage takes, who is busy."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from seedbed.common.process_stats import read_process
from seedbed.server.dashboard.facts import DashboardFacts
from seedbed.server.shared.vitals import COUNTERS, STAGES, Phase, VitalsTable

_EVERY_S = 0.9
"""Least time between two snapshots: several viewers share one."""

_SPAN_S = 5.0
"""Rates are over about so long."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters at one moment.

    Attributes:
        time_s: monotonic.
        counters: totals over all processes.
        stages: sum in seconds and count of each.
        cpu_s: of each process of the server, by name.
    """

    time_s: float
    counters: dict[str, float]
    stages: dict[str, tuple[float, int]]
    cpu_s: dict[str, float]


def take_snapshot(vitals: VitalsTable) -> Snapshot:
    """Reads everything now."""
    histograms = {name: vitals.histogram(name) for name in STAGES}
    processes = {name: read_process(int(one["pid"])) for name, one in vitals.processes.items() if one["pid"]}
    return Snapshot(
        time.monotonic(),
        {name: vitals.total(name) for name in COUNTERS},
        {name: (found.sum, found.count) for name, found in histograms.items()},
        {name: stats.cpu_s for name, stats in processes.items() if stats is not None},
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
        if snapshots and now_s - snapshots[-1].time_s < (_EVERY_S if len(snapshots) > 1 else 0.2):
            return
        snapshots.append(take_snapshot(self._facts.vitals))
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
        steps = run.agent_steps + int(device["agent_steps"])
        rates = self._rates(before, after)
        return {
            "seq": self._seq,
            "now_s": after.time_s,
            "phase": Phase(int(device["phase"])).name.lower(),
            "totals": {
                "agent_steps": steps,
                "frames": steps * facts.spec.frames_per_step,
                "episodes": _whole(newest.get("episodes"), device["episodes"]),
                "updates": run.updates + int(device["updates"]),
            },
            "rates": rates,
            "left_s": self._left_s(steps, rates["steps_per_s"]),
            "gauges": self._gauges(newest),
            "stages_ms": {name: _mean_ms(before, after, name) for name in STAGES},
            "busy": self._busy(before, after),
        }

    def _rates(self, before: Snapshot, after: Snapshot) -> dict[str, float | None]:
        elapsed_s = after.time_s - before.time_s
        new = {name: after.counters[name] - before.counters[name] for name in COUNTERS}
        known = elapsed_s > 0
        return {
            "steps_per_s": new["agent_steps"] / elapsed_s if known else None,
            "frames_per_s": new["agent_steps"] * self._facts.spec.frames_per_step / elapsed_s if known else None,
            "updates_per_s": new["updates"] / elapsed_s if known else None,
            "episodes_per_s": new["episodes"] / elapsed_s if known else None,
            "rows_per_batch": new["batch_rows"] / new["batches"] if new["batches"] else None,
        }

    def _left_s(self, steps: int, steps_per_s: float | None) -> float | None:
        """Until the run's last step at this rate, or its last second."""
        run, device = self._facts.run, self._facts.vitals.device
        left = [] if not steps_per_s else [max(0, run.max_steps - steps) / steps_per_s]
        if run.max_seconds is not None:
            left.append(max(0.0, run.max_seconds - (time.monotonic() - device["started_s"])))
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

    def _busy(self, before: Snapshot, after: Snapshot) -> dict[str, float | None]:
        """Shares of time in which the two threads had work, and cores that each process kept busy."""
        elapsed_s = after.time_s - before.time_s
        if elapsed_s <= 0:
            return {}
        shares: dict[str, float | None] = {
            "inference": min(1.0, sum(_seconds(before, after, name) for name in ("inference", "remember")) / elapsed_s),
            "learner": min(1.0, _seconds(before, after, "update") / elapsed_s),
        }
        for name, cpu_s in after.cpu_s.items():
            if name in before.cpu_s:
                shares[name] = (cpu_s - before.cpu_s[name]) / elapsed_s
        return shares


def _seconds(before: Snapshot, after: Snapshot, stage: str) -> float:
    return after.stages[stage][0] - before.stages[stage][0]


def _mean_ms(before: Snapshot, after: Snapshot, stage: str) -> float | None:
    count = after.stages[stage][1] - before.stages[stage][1]
    return _seconds(before, after, stage) / count * 1000 if count else None


def _whole(known: Any, otherwise: float) -> int:
    """Episodes of all starts where a line says so, and those since it where there are more."""
    return max(int(known or 0), int(otherwise))
