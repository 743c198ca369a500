"""The whole system: `seedbed train` with training on, watched through its metrics and /proc once it is steady."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.bench.accounting import Snapshot, busy_core_s, family, role
from tests.bench.programs import SEEDBED, TIMEOUT_S, Program

WARM_UP_S = 5.0  # after the first update
_ENDLESS = ("--target-return", "none", "--max-seconds", "none", "--max-steps", str(10**12), "--resume", "never")
_POLL_S = 0.02
_TAIL_BYTES = 64 * 1024  # holds many lines of metrics; reading all of a long run's would slow it down more and more


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known at one moment of a run.

    Attributes:
        metrics: the newest line of metrics.jsonl.
        cpu: of all its processes.
        commands: their command lines, by process id.
        pss_bytes: proportional set size by process id: shared pages count in parts.
        rss_bytes: resident set size by process id.
        busy_s: core seconds of the whole machine so far.
    """

    metrics: Mapping[str, Any]
    cpu: Snapshot
    commands: Mapping[int, str]
    pss_bytes: Mapping[int, int]
    rss_bytes: Mapping[int, int]
    busy_s: float

    @classmethod
    def of(cls, pid: int, metrics: Mapping[str, Any]) -> Moment:
        """Now."""
        commands = family(pid)
        memory = {member: _memory_bytes(member) for member in commands}
        pss, rss = ({member: sizes[i] for member, sizes in memory.items()} for i in range(2))
        return cls(metrics, Snapshot.of(commands), commands, pss, rss, busy_core_s())


class Training(Program):
    """A `seedbed train` process; use it as a context."""

    def __init__(self, options: Sequence[str], run_dir: Path) -> None:
        """Starts a run that does not end by itself."""
        self._metrics = run_dir / "metrics.jsonl"
        super().__init__((*SEEDBED, "train", *options, *_ENDLESS, "--run-dir", str(run_dir), "--log-interval-s", "1"))

    def steady(self) -> Moment:
        """Waits until it has learnt for a while."""
        first = self.moment(lambda line: line["updates"] > 0)
        return self.later(first, WARM_UP_S)

    def later(self, began: Moment, seconds: float) -> Moment:
        """Waits until so long after another moment."""
        end_s = began.metrics["wall_s"] + seconds
        return self.moment(lambda line: line["wall_s"] >= end_s, within_s=seconds + TIMEOUT_S)

    def moment(self, holds: Callable[[Mapping[str, Any]], bool], within_s: float = TIMEOUT_S) -> Moment:
        """Waits for a line of metrics.

        Raises:
            RuntimeError: there is none in time.
        """
        deadline_s = time.monotonic() + within_s
        while not ((line := self._newest()) and holds(line)):
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"expected a run that goes on for {within_s:g} s, it said\n{self.log[-2000:]}")
            time.sleep(_POLL_S)
        return Moment.of(self.pid, line)

    def _newest(self) -> dict[str, Any] | None:
        if not self._metrics.exists():
            return None
        with self._metrics.open("rb") as file:
            file.seek(max(0, self._metrics.stat().st_size - _TAIL_BYTES))
            lines = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
        return json.loads(lines[-1]) if lines else None


def measure_system(options: Sequence[str], run_dir: Path, seconds: float) -> dict[str, Any]:
    """Trains, and measures for so long once it is steady.

    Args:
        options: of `seedbed train`.
        run_dir: a fresh one.
        seconds: of the window.
    """
    with Training(options, run_dir) as training:
        began = training.steady()
        return between(began, training.later(began, seconds))


def between(began: Moment, ended: Moment) -> dict[str, Any]:
    """What a run did from one moment to another."""
    elapsed_s = ended.metrics["wall_s"] - began.metrics["wall_s"]
    steps = ended.metrics["agent_steps"] - began.metrics["agent_steps"]
    assert steps > 0, "expected agent steps while the run was measured"
    by_role: dict[str, float] = {}
    threads: dict[str, dict[str, float]] = {}
    for (pid, tid), spent in ended.cpu.since(began.cpu).items():
        part, name = role(ended.commands[pid]), "main" if pid == tid else spent.name
        cpu_us = spent.cpu_s / steps * 1e6
        by_role[part] = by_role.get(part, 0.0) + cpu_us
        of_role = threads.setdefault(part, {})
        of_role[name] = of_role.get(name, 0.0) + cpu_us
    memory: dict[str, float] = {}
    for pid, size in ended.pss_bytes.items():
        part = role(ended.commands[pid])
        memory[part] = memory.get(part, 0.0) + size / 2**20
    own_cores = ended.cpu.cpu_s_since(began.cpu) / elapsed_s
    return {
        "agent_steps_per_s": steps / elapsed_s,
        "updates_per_s": (ended.metrics["updates"] - began.metrics["updates"]) / elapsed_s,
        "cpu_us_per_step": by_role,
        "threads_cpu_us_per_step": threads,
        "cores_used": own_cores,
        "cores_used_by_others": max(0.0, (ended.busy_s - began.busy_s) / elapsed_s - own_cores),
        "memory_mib": memory,
        "seconds": elapsed_s,
        "policy_lag_mean": ended.metrics["policy_lag_mean"],
        "inference_batch_mean": ended.metrics["inference_batch_mean"],
    }


def _memory_bytes(pid: int) -> tuple[int, int]:
    """Proportional and resident set size; 0 of a process that has ended."""
    try:
        info = psutil.Process(pid).memory_full_info()
    except psutil.Error:
        return 0, 0
    return int(info.pss), int(info.rss)
