"""CPU time and memory of processes and their threads, from /proc.

`/proc/PID/task/TID/schedstat` counts nanoseconds on a core; the usual `stat` counts ticks of 10 ms. CPU time hardly
depends on what else runs beside, so it is what components are compared by.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class ThreadTime:
    """CPU seconds of one thread since it began."""

    name: str
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All threads of some processes at one moment: (process id, thread id) -> time."""

    threads: Mapping[tuple[int, int], ThreadTime]

    @classmethod
    def of(cls, pids: Iterable[int]) -> Snapshot:
        """Reads the threads of these processes; those that end meanwhile are left out."""
        return cls({(pid, tid): time for pid in pids for tid, time in _read_threads(pid).items()})

    def since(self, before: Snapshot) -> dict[tuple[int, int], ThreadTime]:
        """CPU seconds of each thread between two moments."""
        began = {key: time.cpu_s for key, time in before.threads.items()}
        return {key: ThreadTime(time.name, time.cpu_s - began.get(key, 0.0)) for key, time in self.threads.items()}

    def cpu_s_since(self, before: Snapshot) -> float:
        """CPU seconds of all threads between two moments."""
        return sum(time.cpu_s for time in self.since(before).values())


def family(pid: int) -> dict[int, str]:
    """A process and all its descendants: process id -> command line."""
    found = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                found[member.pid] = " ".join(member.cmdline())
    return found


def role(command: str) -> str:
    """What a process of a run does, by its command line: "client", "frontend", "device" or "helper"."""
    if "resource_tracker" in command:
        return "helper"
    if "spawn_main" in command:
        return "frontend"
    if "seedbed.env_client" in command:
        return "client"
    return "device"


def busy_core_s() -> float:
    """Core seconds in which this machine did anything, since it started (`/proc/stat`; ticks of 10 ms)."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0))


def _read_threads(pid: int) -> dict[int, ThreadTime]:
    found = {}
    for task in _tasks(pid):
        with contextlib.suppress(OSError):  # it has ended
            cpu_ns = int((task / "schedstat").read_text().split()[0])
            found[int(task.name)] = ThreadTime((task / "comm").read_text().strip(), cpu_ns / 1e9)
    return found


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
