"""Collection of cyclic garbage: rare, and certain. In a process of its own, whose settings these are."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, weakref
from seedbed.common.garbage import YOUNG_OBJECTS, collect_rarely

collect_rarely()
seen = []
gc.callbacks.append(lambda phase, info: seen.append(info["generation"]))
under_way = [[] for _ in range(YOUNG_OBJECTS * 9 // 10)]
for _ in range(20 * YOUNG_OBJECTS):  # one comes and one goes
    under_way.append([])
    under_way.pop()
print("frozen", gc.get_freeze_count() > 1000, "collections", len(seen))


class Knot:
    def __init__(self):
        self.itself = self


knots = [weakref.ref(Knot()) for _ in range(YOUNG_OBJECTS)]
print("left", sum(knot() is not None for knot in knots) < YOUNG_OBJECTS)
"""


def test_requests_under_way_are_not_collected_and_cycles_are() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["frozen True collections 0", "left True"]
