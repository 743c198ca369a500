"""How busy this machine is, whoever keeps it so."""

from __future__ import annotations

import math
import os
from pathlib import Path

NUM_CORES = os.cpu_count() or 1

_STAT = Path("/proc/stat")
_IDLE = slice(3, 5)  # idle and waiting for disks


def usable_cores() -> int:
    """Cores that this process may run on; all of the machine where the system does not say, as on macOS."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else NUM_CORES


def busy_s(stat: str | None = None) -> float:
    """CPU seconds that all processes of this machine have used since it started; NaN where it does not say.

    Args:
        stat: text of /proc/stat; read now if None.
    """
    try:
        text = _STAT.read_text() if stat is None else stat
    except OSError:
        return math.nan
    fields = [int(field) for field in text.splitlines()[0].split()[1:9]]  # guests are counted in the others
    return (sum(fields) - sum(fields[_IDLE])) / os.sysconf("SC_CLK_TCK")


def busy_share(before_s: float, after_s: float, seconds: float) -> float | None:
    """Share of all cores that was in use between two answers of `busy_s`; None where that is not known."""
    share = (after_s - before_s) / (NUM_CORES * seconds)
    return share if math.isfinite(share) else None
