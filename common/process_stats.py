"""What a process has cost so far, read from /proc; no dependency, and cheap enough to ask every second."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessStats(NamedTuple):
    """Costs of one process.

    Attributes:
        cpu_s: user and system time of all its threads, in steps of 10 ms.
        rss_bytes: resident memory, shared pages included.
    """

    cpu_s: float
    rss_bytes: int


def read_process(pid: int) -> ProcessStats | None:
    """Costs of a live process, or None when there is none of that number."""
    folder = Path("/proc") / str(pid)
    try:
        # The command may hold blanks and brackets: fields are counted from its closing one.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        resident_pages = int((folder / "statm").read_text().split()[1])
    except OSError:
        return None
    return ProcessStats((int(fields[11]) + int(fields[12])) / _TICKS_PER_S, resident_pages * _PAGE_BYTES)
