"""Collection of cyclic garbage in processes that hold many streams: rare, since hardly any garbage is cyclic.

By default CPython goes through its youngest objects for every 700 more of them, and through all of them whenever those
that have survived are a quarter more. A process with a thousand streams has 280,000, none of them garbage, and a
thousand requests under way make that quarter again and again: a third of its time (docs/performance.md).
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 50_000
"""More than the requests that are under way consist of, so that a busy process that leaves nothing behind never
collects. Should something leave cycles behind, they are found when so many objects are in them: some tens of MB."""


def collect_rarely() -> None:
    """Call it once all that stays is there: it is never looked at again."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
