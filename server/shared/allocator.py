"""Keeps freed memory in the process.

Each batch allocates and frees the same few megabytes. glibc gives blocks of that size back to the kernel, which then
zeroes every page of the next one: 6 % of all CPU time of Pong on two cores (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import sys

# <malloc.h>; no other C library has these.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER_BYTES = 2**31 - 1


def keep_freed_memory() -> None:
    """Tells glibc to reuse large blocks instead of returning them; does nothing where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _NEVER_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _NEVER_BYTES)
