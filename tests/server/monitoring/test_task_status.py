"""Status of several tasks: numbers by name, scores together, and a table that stays short."""

from __future__ import annotations

import math
from typing import Any

import pytest

from seedbed.server.monitoring.metrics import EpisodeWindow, tag_of
from seedbed.server.monitoring.prometheus import ServerFacts, metrics_page
from seedbed.server.monitoring.task_status import (
    TaskStatus,
    normalised_together,
    shared_numbers,
    task_metrics,
    task_rows,
    task_statuses,
)
from seedbed.server.run.cohorts import CohortRecord, Verdict
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import TaskFacts
from seedbed.server.shared.vitals import VitalsTable


def facts(name: str, frames: int = 1, **changes: Any) -> TaskFacts:
    values: dict[str, Any] = {"environment": name, "share": 0.5, "target": None, "scale": None}
    return TaskFacts(name=name, frames_per_step=frames, **{**values, **changes})


def statuses(value: float | None = 5.0, num_tasks: int = 2, **changes: Any) -> list[TaskStatus]:
    tasks = [facts(f"t{number}", 1 + 3 * number, **changes) for number in range(num_tasks)]
    window = EpisodeWindow()
    if value is not None:
        window.add(value, 10, 10)
    record = CohortRecord().after(Verdict(value, value, 0.1, 100)) if value is not None else CohortRecord(void=2)
    own = {"agent_steps": 100, "episodes": window.get_state(), "cohorts": record.to_json()}
    return task_statuses(tasks, RunState(tasks={task.name: own for task in tasks}), {"t0": 3})


def test_shares_are_of_frames() -> None:
    first, second = statuses()
    assert (first.frames, second.frames, first.share, second.share) == (100, 400, 0.2, 0.8)
    assert (first.environments, second.environments) == (3, 0)


def test_metrics_have_the_tasks_name_and_trackers_the_same() -> None:
    metrics = task_metrics(statuses(scale=(0.0, 10.0)))
    assert metrics["task/t0/return_mean"] == 5.0
    assert metrics["task/t1/human_normalised"] == metrics["human_normalised_capped_mean"] == 0.5
    assert tag_of("task/t0/return_mean") == "task/t0/return_mean"
    assert task_metrics([]) == {}
    assert not any("human" in key for key in task_metrics(statuses()))


def test_scores_together_wait_for_every_task() -> None:
    assert normalised_together(statuses(scale=(0.0, 10.0))) is not None
    known, unknown = statuses(scale=(0.0, 10.0))[0], statuses(None, scale=(0.0, 10.0))[1]
    assert normalised_together([known, unknown]) is None
    assert task_metrics([known, unknown])["human_normalised_mean"] is None


def test_a_person_sees_who_is_missing_what_is_void_and_what_is_reached() -> None:
    table = ["|".join(part.strip() for part in row) for row in task_rows(statuses(target=5.0))]
    assert table[0] == "task|envs|steps|share|return|cohort|target"
    assert table[1] == "t0|3|100|20%|5.00|5.00|5 reached"
    assert table[2].startswith("t1|0: nobody plays it|100|80%")
    assert "- (2 void)" in "|".join(task_rows(statuses(None))[1])
    assert task_rows([]) == []


def test_of_dozens_the_worst_are_shown() -> None:
    rows = task_rows(statuses(num_tasks=57, scale=(0.0, 10.0)))
    assert len(rows) == 1 + 15 + 2
    assert rows[-2][0].strip() == "and 42 more"
    assert "capped mean 50.0%" in rows[-1][-1]


def test_prometheus_has_a_label_for_each_task() -> None:
    vitals = VitalsTable(1, 2)
    vitals.tasks.write(shared_numbers(statuses(None)))
    vitals.tasks.write(shared_numbers(statuses(scale=(0.0, 10.0))))
    page = metrics_page(
        ServerFacts(vitals=vitals, stall_limit_s=1.0, num_slots=1, frames_per_step=1, version="0")
    ).decode()
    assert 'seedbed_task_frames_total{task="t1"} 400.0' in page
    assert 'seedbed_task_human_normalised{task="t0"} 0.5' in page
    assert all(math.isfinite(value) for value in shared_numbers(statuses()).values())


@pytest.mark.parametrize("value", [None, 5.0])
def test_what_is_not_known_yet_is_not_a_number(value: float | None) -> None:
    assert math.isnan(shared_numbers(statuses(value))["return_mean:t0"]) == (value is None)
