"""Experiments: which runs there are, and what their metrics are taken to say."""

from __future__ import annotations

import pytest

from seedbed.server.monitoring.metrics import Metrics
from seedbed.server.options.tasks import names_of, tasks_of
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.task_set import find_tasks, split_envs
from tests.bench.experiments import EXPERIMENTS, Row, outcome_of


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_rows_are_command_lines_and_watch_a_task_that_they_have(name: str) -> None:
    rows = EXPERIMENTS[name].rows
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        read_command_line([*row.options, "--target-return", "inf"], prog="test")
        envs = split_envs(row.options)[1]
        tasks = find_tasks(envs, None, None, None)
        assert (row.task is None) == (tasks is None)
        if tasks is not None:
            assert row.task in names_of(tasks_of(list(envs), "--env"))


def lines(*returns: float | None, prefix: str = "") -> list[Metrics]:
    return [
        {
            "agent_steps": 3000.0 * n,
            f"{prefix}agent_steps": (3000.0 if not prefix else 1000.0) * n,
            f"{prefix}cohort_return_mean": value,
        }
        for n, value in enumerate(returns, start=1)
    ]


def test_steps_and_cpu_are_those_until_the_first_cohort_at_the_threshold() -> None:
    row = Row(name="a", options=(), task="b")
    found = outcome_of(lines(None, 0.5, 0.9, 0.7, prefix="task/b/"), row, 0.9, 400.0)
    assert (found.steps, found.all_steps, found.share, found.best, found.newest) == (3000, 9000, 0.75, 0.9, 0.7)
    assert str(found) == "3,000 (300 s), best 0.90, last 0.70"


def test_a_seed_that_missed_is_shown_as_such() -> None:
    found = outcome_of(lines(None, 0.5), Row(name="a", options=()), 0.9, 40.0)
    assert found.steps is None
    assert str(found) == "**not within 6,000** (40 s), best 0.50, last 0.50"
    assert "best -, last -" in str(outcome_of(lines(None), Row(name="a", options=()), 0.9, 40.0))
