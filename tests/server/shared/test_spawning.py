"""Ctrl-C while child processes start: it reaches the parent, and no child."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess

import pytest

from seedbed.common.stop_signals import ignore_stop
from seedbed.server.shared.spawning import uninterrupted


def live() -> None:
    """Main function of a child."""
    time.sleep(60)


def interrupt_both() -> BaseProcess:
    """Starts a child, interrupts it while it imports and this process too, and returns the child, which lives."""
    with uninterrupted():
        child = multiprocessing.get_context("spawn").Process(target=live, daemon=True)
        child.start()
        assert child.pid is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(child.pid, number)
        os.kill(os.getpid(), signal.SIGINT)
        child.join(1.0)
        assert child.exitcode is None
        return child


def test_a_child_that_only_starts_does_not_hear_of_it_and_its_parent_does() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt_both()
    [child] = multiprocessing.active_children()
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, set()) & {signal.SIGINT, signal.SIGTERM}


def live_deaf() -> None:
    """Main function of a child that leaves its end to its parent."""
    ignore_stop()
    print("deaf", flush=True)
    time.sleep(60)


DEFECTIVE = """
import multiprocessing, sys
from tests.server.shared import test_spawning
if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=test_spawning.live_deaf, daemon=True).start()
    sys.stdin.readline()
    raise RuntimeError("nobody ends the child")
"""


def test_a_parent_that_an_error_ends_does_not_wait_for_children_that_wait_for_it() -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", DEFECTIVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"deaf\n"
    began_s = time.monotonic()
    _, stderr = program.communicate(b"\n", timeout=50)
    assert b"nobody ends the child" in stderr
    assert program.returncode == 1
    assert time.monotonic() - began_s < 30, "the child would have slept for 60 s"
