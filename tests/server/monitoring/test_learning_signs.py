"""Signs that a run does not learn: told once, and never while it gets better."""

from __future__ import annotations

import math

import pytest

from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.monitoring.learning_signs import LearningSigns
from seedbed.server.options.run import RunConfig
from seedbed.server.run.cohorts import CohortRecord, Verdict
from seedbed.server.run.state import RunState

RUN = RunConfig(max_steps=1000)
BOX = ArraySpec(name="action", dtype="float32", shape=(2,), low=(-1.0,), high=(1.0,))


def spec(*actions: ArraySpec) -> EnvironmentSpec:
    return EnvironmentSpec(environment="x", observations=(discrete("o", 2),), actions=actions)


def state(agent_steps: int, *means: float) -> RunState:
    record = CohortRecord()
    for mean in means:
        record = record.after(Verdict(mean, mean, 0.5, 100))
    return RunState(agent_steps=agent_steps, cohorts=record.to_json())


def told(signs: LearningSigns, now: RunState, times: int = 20, **metrics: float) -> list[str]:
    return [line for _ in range(times) for line in signs.look(now, metrics)]


@pytest.fixture
def signs() -> LearningSigns:
    return LearningSigns(RUN, spec(discrete("a", 4)))


def test_a_policy_that_explores_no_more_at_the_beginning(signs: LearningSigns) -> None:
    assert told(signs, state(50), times=2, entropy=0.001) == [], "may be an accident"
    assert told(signs, state(50), entropy=1.0) == []
    [line] = told(signs, state(50), entropy=0.001)
    assert "hardly explores" in line
    assert "--entropy-cost" in line
    assert told(signs, state(60), entropy=0.001) == [], "once"


def test_nor_is_it_told_of_one_that_has_learnt_or_has_no_such_entropy(signs: LearningSigns) -> None:
    assert told(signs, state(50, 1.0, 1.9), entropy=0.5) == []
    assert told(signs, state(50, 1.0, 2.1), entropy=0.001) == []
    assert told(signs, state(150), entropy=0.001) == [], "later a policy may be sure of itself"
    boxes = LearningSigns(RUN, spec(discrete("a", 2), BOX))
    assert told(boxes, state(50), entropy=-20.0) == []
    assert told(boxes, state(50), loss=1.0) == []


@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
@pytest.mark.parametrize("value", [1e6, math.inf, math.nan])
def test_an_explosion(signs: LearningSigns, name: str, value: float) -> None:
    assert told(signs, state(50), times=12, loss=1.0, gradient_norm=1.0) == []
    assert [line for _ in range(2) for line in signs.look(state(50), {name: value})] == []
    [line] = [line for _ in range(5) for line in signs.look(state(50), {name: value})]
    assert f"{name} grew a thousandfold" in line


def test_a_loss_that_grows_with_returns_is_none(signs: LearningSigns) -> None:
    assert told(signs, state(50), times=12, loss=1.0) == []
    assert told(signs, state(50, 1.0, 400.0), loss=1e5) == []
    assert told(signs, state(50, 1.0), loss=500.0) == []


def test_cohorts_that_do_not_get_better(signs: LearningSigns) -> None:
    assert told(signs, state(299, 1.0, 1.0, 1.0)) == []
    assert told(signs, state(300, 1.0, 1.0)) == [], "two are too few to judge"
    assert told(signs, state(300, 1.0, 2.5, 1.0)) == [], "it was better once"
    [line] = told(signs, state(300, 1.0, 1.5, 0.9))
    assert "no cohort of episodes was better than the first one after 30% of the run" in line


def test_the_share_of_a_run_that_is_limited_in_time() -> None:
    signs = LearningSigns(RunConfig(max_steps=10**9, max_seconds=100.0), spec(discrete("a", 4)))
    now = state(300, 1.0, 1.0, 1.0)
    assert told(signs, RunState(agent_steps=300, wall_s=29.0, cohorts=now.cohorts)) == []
    assert len(told(signs, RunState(agent_steps=300, wall_s=31.0, cohorts=now.cohorts))) == 1


def test_importance_weights_that_leave_few_samples_are_told_whatever_returns_do(signs: LearningSigns) -> None:
    better = state(500, 1.0, 5.0)
    assert told(signs, better, effective_sample_share=0.6) == []
    [line] = told(signs, better, effective_sample_share=0.31)
    assert "leave 31% of the samples" in line
    assert "--queue-unrolls" in line
