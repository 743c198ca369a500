"""Cohorts of several tasks: each has its own, the run is judged by joint ones, and a task that is gone leaves none."""

from __future__ import annotations

import pytest

from seedbed.server.options.run import RunConfig
from seedbed.server.run.cohorts import CohortRecord
from seedbed.server.run.human_scores import Normalised, human_normalised
from seedbed.server.run.joint_cohorts import JointCohorts
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import TaskFacts


def facts(*names: str, scale: tuple[float, float] | None = None, target: float | None = None) -> list[TaskFacts]:
    return [
        TaskFacts(name=name, environment=name, frames_per_step=1, share=0.5, target=target, scale=scale)
        for name in names
    ]


def cohorts(scale: tuple[float, float] | None = None) -> JointCohorts:
    """Two tasks of two environments each, four episodes a cohort."""
    subject = JointCohorts(facts("a", "b", scale=scale), lambda _: True, size=4)
    subject.joined([0, 2], [0, 0])
    subject.joined([1, 3], [1, 1])
    return subject


def play(subject: JointCohorts, returns: dict[int, float], episodes: int = 2) -> None:
    for _ in range(episodes):
        for index, value in returns.items():
            subject.ended(index, value)


def test_the_joint_cohort_waits_for_every_task() -> None:
    subject = cohorts()
    play(subject, {0: 1.0, 2: 1.0}, episodes=7)
    assert [member.record.judged for member in subject.members] == [3, 0]
    assert subject.record.judged == 0
    play(subject, {1: 3.0, 3: 5.0})
    assert subject.record.newest is not None
    assert (subject.record.judged, subject.record.newest.mean, subject.record.newest.episodes) == (1, 2.5, 8)


def test_scores_of_people_are_capped_before_they_are_averaged() -> None:
    subject = cohorts(scale=(0.0, 10.0))
    play(subject, {0: 500.0, 2: 500.0, 1: 5.0, 3: 5.0})
    assert subject.record.newest is not None
    assert subject.record.newest.mean == pytest.approx(0.75)


def test_a_task_whose_environments_go_is_void_and_the_others_go_on() -> None:
    subject = cohorts()
    subject.left([1, 3])
    play(subject, {0: 1.0, 2: 1.0}, episodes=7)
    assert [member.record.void for member in subject.members] == [0, 1]
    assert subject.members[0].record.judged == 3
    assert (subject.record.judged, subject.record.void, subject.num_present) == (0, 1, 2)
    subject.joined([1, 3], [1, 1])
    play(subject, {0: 1.0, 2: 1.0, 1: 1.0, 3: 1.0}, episodes=3)
    assert subject.record.judged == 1


def test_an_index_may_come_back_as_another_task() -> None:
    subject = cohorts()
    subject.left([1])
    subject.joined([1], [0])
    assert [member.num_present for member in subject.members] == [3, 1]


def state(**newest: float) -> RunState:
    def record(value: float) -> dict[str, object]:
        subject = JointCohorts(facts("x"), lambda _: True, size=1)
        subject.joined([0], [0])
        subject.ended(0, value)
        return subject.members[0].record.to_json()

    tasks = {name: {"agent_steps": 1, "episodes": {}, "cohorts": record(value)} for name, value in newest.items()}
    return RunState(agent_steps=10, tasks=tasks)


def test_a_run_stops_when_every_task_with_a_target_has_reached_it() -> None:
    run = RunConfig(target_return=100.0)  # of tasks: the target of those without their own, see `facts_of`
    tasks = [*facts("a", target=5.0), *facts("b", target=-1.0), *facts("c")]
    assert state(a=5.0, b=-2.0).stop_condition(run, tasks) is None
    assert state(a=5.0).stop_condition(run, tasks) is None
    assert "a 5.00, b -1.00" in (state(a=5.0, b=-1.0).stop_condition(run, tasks) or "")
    assert state(a=5.0).stop_condition(run, facts("a")) is None


def test_a_run_stops_at_a_capped_mean() -> None:
    subject = cohorts(scale=(0.0, 10.0))
    play(subject, {0: 500.0, 2: 500.0, 1: 6.0, 3: 6.0})
    now = RunState(agent_steps=1, cohorts=subject.record.to_json())
    assert CohortRecord.from_json(now.cohorts).newest is not None
    assert now.stop_condition(RunConfig(), facts("a", "b"), 0.9) is None
    assert "0.800 of people's" in (now.stop_condition(RunConfig(), facts("a", "b"), 0.8) or "")


def test_scores_together_by_hand() -> None:
    """The three figures that are reported of several games."""
    games = {"Pong": 18.0, "Breakout": 400.0, "Seaquest": 1753.2}
    scores = [human_normalised(f"ALE/{game}-v5", value) for game, value in games.items()]
    assert [round(100 * score, 2) for score in scores if score is not None] == [109.63, 1382.99, 4.01]
    together = Normalised.of([score for score in scores if score is not None])
    assert together.median == scores[0]
    assert together.capped_mean == pytest.approx((1 + 1 + 0.0401) / 3, abs=1e-4)
