"""Ctrl-C while child processes start: it reaches the parent, and no child."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.process import BaseProcess

import pytest

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
