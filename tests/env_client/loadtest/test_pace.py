"""When messages are due, by a clock of the test's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

import numpy as np
import pytest

from seedbed.env_client.loadtest.pace import ClosedLoop, FixedRate


class Clock:
    """Time passes only when somebody sleeps, or the test says so. Sleepers wake `late_s` too late."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.late_s = 0.0

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds + self.late_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now_s)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    return clock


def wait(starting: Awaitable[float]) -> float:
    """The result of a coroutine that sleeps only by the test's clock."""
    with pytest.raises(StopIteration) as stop:
        starting.__await__().__next__()
    return float(stop.value.value)


def test_a_closed_loop_steps_one_environment_after_another(clock: Clock) -> None:
    pace = ClosedLoop(8, 0.010, 0.0, np.random.default_rng(0))
    assert wait(pace.next_start_s()) == pytest.approx(100.08)
    clock.now_s = 105.0
    assert wait(pace.next_start_s()) == pytest.approx(105.08)


def test_jitter_comes_on_top(clock: Clock) -> None:
    pace = ClosedLoop(4, 0.010, 0.005, np.random.default_rng(0))
    times = np.diff([100.0, *(wait(pace.next_start_s()) for _ in range(50))])
    assert (times > 0.040).all()
    assert (times < 0.060).all()
    assert times.std() > 0


def test_without_step_time_a_closed_loop_does_not_wait(clock: Clock) -> None:
    assert wait(ClosedLoop(4, 0.0, 0.0, np.random.default_rng(0)).next_start_s()) == 100.0


def test_a_rate_is_kept(clock: Clock) -> None:
    """Whatever the answers take, as long as they come within the period; the first message goes at once."""
    pace = FixedRate(0.5, 0.25)
    starts = []
    for answer_s in (0.1, 0.4, 0.0, 0.3):
        starts.append(wait(pace.next_start_s()))
        clock.now_s += answer_s
    assert starts == pytest.approx([100.0, 100.25, 100.75, 101.25])


def test_a_stall_counts_for_every_message_that_was_due(clock: Clock) -> None:
    """Coordinated omission: one answer that takes 2 s makes four more late, by 1.5, 1.0 and 0.5 s, and 0."""
    pace = FixedRate(0.5, 0.5)
    wait(pace.next_start_s())
    latencies = []
    for answer_s in (2.0, 0.0, 0.0, 0.0, 0.0, 0.0):
        start_s = wait(pace.next_start_s())
        clock.now_s += answer_s
        latencies.append(clock.now_s - start_s)
    assert latencies == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0, 0.0])


def test_a_timer_that_is_late_is_no_latency_but_a_late_client_is(clock: Clock) -> None:
    pace = FixedRate(0.5, 0.5)
    wait(pace.next_start_s())
    for late_s, counted_s in ((0.001, 0.0), (0.1, 0.1)):
        clock.late_s = late_s
        start_s = wait(pace.next_start_s())
        assert clock.now_s - start_s == pytest.approx(counted_s)
