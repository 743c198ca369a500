"""What a process has cost so far, read from /proc; no dependency, and cheap enough to ask every second."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

_HAS_PROC = sys.platform == "linux"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if _HAS_PROC else 0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if _HAS_PROC else 0


class ProcessStats(NamedTuple):
    """Costs of one process.

    Attributes:
        cpu_s: user and system time of all its threads, in steps of 10 ms.
        rss_bytes: resident memory, shared pages included.
        num_threads: threads.
        num_files: open file descriptors; 0 where this user may not look.
    """

    cpu_s: float
    rss_bytes: int
    num_threads: int
    num_files: int


def read_process(pid: int) -> ProcessStats | None:
    """Costs of a live process, or None when there is none of that number, or no /proc to tell."""
    folder = Path("/proc") / str(pid)
    try:
        # The command may hold blanks and brackets: fields are counted from its closing one.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        resident_pages = int((folder / "statm").read_text().split()[1])
    except OSError:
        return None
    try:
        num_files = len(os.listdir(folder / "fd"))
    except OSError:
        num_files = 0
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return ProcessStats(cpu_s, resident_pages * _PAGE_BYTES, int(fields[17]), num_files)
