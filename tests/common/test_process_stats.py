"""Costs of processes, against what the kernel tells the process itself."""

from __future__ import annotations

import os
import time

import pytest

from seedbed.common.process_stats import read_process


def test_this_process() -> None:
    started = time.process_time()
    while time.process_time() - started < 0.05:
        pass
    stats = read_process(os.getpid())
    assert stats is not None
    times = os.times()
    assert stats.cpu_s == pytest.approx(times.user + times.system, abs=0.05)
    assert 1 << 20 < stats.rss_bytes < 1 << 34


def test_a_process_that_is_not_there() -> None:
    assert read_process(2**22 + 1) is None
