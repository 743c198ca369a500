"""What /proc/stat says."""

from __future__ import annotations

import os

import pytest

from seedbed.common.cpu import busy_s


def test_busy_is_all_that_is_not_idle() -> None:
    """Fields: user nice system idle iowait irq softirq steal guest guest_nice; guests are part of user."""
    ticks = os.sysconf("SC_CLK_TCK")
    stat = "cpu  100 10 40 9000 500 3 2 45 30 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert busy_s(stat) == pytest.approx(200 / ticks)


def test_this_machine_has_been_busy() -> None:
    before = busy_s()
    assert 0 < before <= busy_s()
