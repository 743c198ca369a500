"""What /proc/stat says, and which addresses are this machine's."""

from __future__ import annotations

import os

import pytest

from seedbed.env_client.loadtest.machine import busy_s, is_loopback


def test_busy_is_all_that_is_not_idle() -> None:
    """Fields: user nice system idle iowait irq softirq steal guest guest_nice; guests are part of user."""
    ticks = os.sysconf("SC_CLK_TCK")
    stat = "cpu  100 10 40 9000 500 3 2 45 30 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert busy_s(stat) == pytest.approx(200 / ticks)


def test_this_machine_has_been_busy() -> None:
    before = busy_s()
    assert 0 < before <= busy_s()


@pytest.mark.parametrize(
    ("target", "here"),
    [
        ("127.0.0.1:1", True),
        ("127.1.2.3:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("10.0.0.1:1", False),
        ("trainer.example:7777", False),
        ("0.0.0.0:1", False),
    ],
)
def test_loopback(target: str, here: bool) -> None:
    assert is_loopback(target) is here
