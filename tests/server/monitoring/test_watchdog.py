"""The watchdog ends what is stuck, once, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from seedbed.server.monitoring.watchdog import STALLED_EXIT_CODE, Watchdog
from seedbed.server.shared.vitals import Phase, VitalsTable

LIMIT_S = 60.0


class Scene:
    """A server that turns unless told otherwise, a clock, and a watchdog that only counts ends."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.ends = 0
        self.table = VitalsTable(1)
        self.table.device["phase"] = Phase.SERVING
        self.watchdog = Watchdog(self.table, LIMIT_S, self._end, lambda: self.now_s)

    def _end(self) -> None:
        self.ends += 1

    def live(self, seconds: int, *stuck: str) -> None:
        """Seconds pass, a look in each; those named do not turn."""
        for _ in range(seconds):
            self.now_s += 1.0
            for name in {"turn_s", "tick_s"} - set(stuck):
                self.table.device[name] = self.now_s
            self.watchdog.look()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_healthy_server_lives(scene: Scene) -> None:
    scene.live(1000)
    assert scene.ends == 0


def test_a_stuck_thread_ends_it_after_the_limit(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.live(100)
    scene.live(60, "turn_s")
    assert scene.ends == 0
    scene.live(1, "turn_s")
    assert scene.ends == 1
    assert "the inference thread has not turned for 61 s" in caplog.text


def test_a_process_that_was_stopped_gets_its_time_again(scene: Scene) -> None:
    """After SIGCONT everything is old, and nothing is stuck."""
    scene.live(100)
    scene.now_s += 10_000
    scene.watchdog.look()
    scene.live(50, "turn_s", "tick_s")
    assert scene.ends == 0
    scene.live(12, "turn_s", "tick_s")
    assert scene.ends > 0, "but not for ever"


def test_a_failure_is_left_to_the_main_thread(scene: Scene) -> None:
    scene.live(100)
    scene.table.device["phase"] = Phase.FAILED
    scene.live(200, "turn_s", "tick_s")
    assert scene.ends == 0


def test_the_end_of_a_process() -> None:
    """A real deadlock: the stacks of all threads are in the log, and the exit code asks for another attempt."""
    program = (
        "import threading, time\n"
        "from seedbed.server.monitoring.watchdog import Watchdog\n"
        "from seedbed.server.shared.vitals import Phase, VitalsTable\n"
        "table = VitalsTable(1)\n"
        "table.device['taken_s'] = time.monotonic()\n"
        "lock = threading.Lock(); lock.acquire()\n"
        "def forever_in_this_function(): lock.acquire()\n"
        "threading.Thread(target=forever_in_this_function, name='learner').start()\n"
        "Watchdog(table, 1.0).start()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == STALLED_EXIT_CODE == 75
    assert "the learner has finished no update" in done.stderr
    assert "forever_in_this_function" in done.stderr
