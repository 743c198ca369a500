"""Figures of replicas: rates of an interval from what each told since it started."""

from __future__ import annotations

import io

from seedbed.server.learning.exchange.meeting import Report
from seedbed.server.monitoring.progress import PlainProgress, Status
from seedbed.server.monitoring.replica_figures import ReplicaFigures, metrics_of


def reports(*numbers: tuple[float, float, float, float]) -> list[Report]:
    return [Report(agent_steps=a, live_rows=r, batches=b, wait_s=w) for a, r, b, w in numbers]


def test_rates_are_those_of_the_interval() -> None:
    figures = ReplicaFigures()
    first = figures.of(reports((100, 8, 10, 1.0), (50, 4, 5, 9.0)), 10, 2.0)
    assert [one.steps_per_s for one in first] == [0, 0], "nobody knows yet what they did lately"
    assert [one.batch_share for one in first] == [None, None]
    slow, fast = figures.of(reports((200, 8, 20, 1.5), (100, 4, 8, 11.0)), 20, 4.0)
    assert (slow.steps_per_s, slow.batch_share, slow.wait_share) == (25, 1.0, 0.125)
    assert (fast.steps_per_s, fast.batch_share, fast.wait_share) == (12.5, 0.3, 0.5)
    metrics = metrics_of([slow, fast])
    assert (metrics["replicas"], metrics["live_rows_min"], metrics["live_rows_max"]) == (2, 4, 8)
    assert metrics["replica/1/wait_share"] == 0.5


def test_one_replica_has_none() -> None:
    assert ReplicaFigures().of((), 5, 1.0) == []
    assert metrics_of([]) == {}


def test_a_line_for_each_is_shown() -> None:
    stream = io.StringIO()
    figures = ReplicaFigures()
    figures.of(reports((0, 8, 0, 0.0), (0, 8, 0, 0.0)), 0, 1.0)
    replicas = figures.of(reports((1000, 8, 10, 0.1), (900, 8, 9, 0.5)), 10, 1.0)
    status = Status(
        elapsed_s=1,
        agent_steps=1900,
        frames=1900,
        updates=10,
        episodes=0,
        steps_per_s=1,
        frames_per_s=1,
        replicas=replicas,
    )
    PlainProgress(stream).update(status)
    lines = stream.getvalue().splitlines()
    assert lines[1:] == [
        "  learner 0  8 environments  1,000 steps/s  in 100% of the updates  waits 10% of the time",
        "  learner 1  8 environments  900 steps/s  in 90% of the updates  waits 50% of the time",
    ]
