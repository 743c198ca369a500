"""The clock of several replicas: totals, cohorts, learning rates and the end are the same on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seedbed.common.options import override
from seedbed.common.timestep import EpisodeEnd
from seedbed.server.learning.exchange.meeting import Report, Stop, Told, from_row, to_row
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.cohorts import Cohorts
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import TaskFacts
from seedbed.server.shared.indices import INDEX_STRIDE
from seedbed.server.shared.vitals import VitalsTable
from seedbed.server.training.place import Place
from seedbed.server.training.shared_clock import SharedClock

BEFORE = RunState(agent_steps=1000, consumed=900, updates=10, wall_s=5.0)


def clocks(world: int, changes: dict[str, Any] | None = None, facts: Sequence[TaskFacts] = ()) -> list[SharedClock]:
    config = override(ServerConfig(), {"run.max_steps": 10_000, "fleet.num_envs": 4, **(changes or {})})
    found = []
    for rank in range(world):
        parts: Any = SimpleNamespace(
            inference=SimpleNamespace(num_steps=0, steps_elsewhere=0, steps_of_tasks=np.zeros(len(facts), np.int64)),
            learner=SimpleNamespace(num_updates=10),
            regime=SimpleNamespace(counts_agent_steps=False),
        )
        found.append(SharedClock(config, BEFORE, parts, VitalsTable(0).device, Place(rank, world, rank, world), facts))
    return found


def meet(replicas: Sequence[SharedClock], room: int = 64) -> None:
    """As the exchange does, through rows of numbers."""
    told = [from_row(to_row(one.tell(room), room)) for one in replicas]
    for one in replicas:
        one.hear(told)


def end(value: float) -> EpisodeEnd:
    return EpisodeEnd(0, value, 7, 28, False, {})


def test_totals_and_learning_rates_are_of_all() -> None:
    """A learning rate of what one has consumed itself would part them."""
    replicas = clocks(2)
    for rank, one in enumerate(replicas):
        one._parts.inference.num_steps = 300 + 100 * rank
        one.consume(200 + 70 * rank)
    meet(replicas)
    for one in replicas:
        state = one.now()
        assert (state.agent_steps, state.consumed, state.updates) == (1700, 900 + 470, 10)
        assert one.share_done() == 1370 / 10_000
    assert [one._parts.inference.steps_elsewhere for one in replicas] == [400, 300]


def test_cohorts_are_those_of_one_run_with_all_environments() -> None:
    replicas = clocks(2)
    whole = Cohorts(lambda _: True)
    indices = [[rank * INDEX_STRIDE + i for i in range(4)] for rank in range(2)]
    for rank, one in enumerate(replicas):
        one.joined(indices[rank], [0] * 4)
        whole.joined(indices[rank])
    for turn in range(30):
        for rank, one in enumerate(replicas):
            for index in indices[rank]:
                value = float((turn * 7 + index * 3) % 11)
                one.on_episode(index, end(value), "client")
                whole.ended(index, value)
        meet(replicas, room=10)  # less than there is: the rest comes later
    while replicas[0]._events:
        meet(replicas, room=10)
    meet(replicas)
    assert whole.record.judged >= 2
    assert replicas[0].cohorts.record.judged == whole.record.judged
    assert replicas[0].cohorts.record == replicas[1].cohorts.record
    assert replicas[0].now().episodes == replicas[1].now().episodes
    assert replicas[0].now().episodes["num_episodes"] == 240
    first, expected = replicas[0].cohorts.record.first, whole.record.first
    assert first is not None
    assert expected is not None
    assert first.episodes == expected.episodes
    assert first.median == pytest.approx(expected.median, abs=1)


def test_greedy_environments_are_the_last_of_each() -> None:
    (_, second) = clocks(2, {"fleet.num_greedy_envs": 1})
    assert [second.shows_score(INDEX_STRIDE + i) for i in range(4)] == [False, False, False, True]


def test_the_first_decides_when_the_run_has_reached_its_end() -> None:
    replicas = clocks(2, {"run.max_steps": 1500})
    for one in replicas:
        one._parts.inference.num_steps = 400
    meet(replicas)
    first, second = replicas
    reached = first.stop_condition(first.now())
    assert reached == "reached 1,500 agent steps"
    assert second.stop_condition(second.now()) is None
    assert not first.ends(Stop.REACHED), "the other does not know yet"
    meet(replicas)
    assert first.ends(Stop.REACHED)
    assert second.stop_condition(second.now()) is not None
    assert second.ends(Stop.REACHED)
    assert not first.is_stopped_elsewhere


def test_a_signal_at_one_ends_all() -> None:
    replicas = clocks(3)
    assert not replicas[2].ends(Stop.ASKED)
    meet(replicas)
    assert all(one.is_stopped_elsewhere for one in replicas)
    assert replicas[2].ends(Stop.ASKED)
    assert replicas[0].stop_condition(replicas[0].now()) is None


def test_numbers_of_each_are_known_to_all() -> None:
    replicas = clocks(2)
    replicas[1]._vitals["live_rows"] = 3
    meet(replicas)
    assert [report.live_rows for report in replicas[0].reports] == [0, 3]
    assert all(isinstance(report, Report) for report in replicas[0].reports)


def test_tasks_are_counted_over_all_replicas() -> None:
    facts = [
        TaskFacts(name=name, environment=name, frames_per_step=1, share=0.5, target=None, scale=None) for name in "ab"
    ]
    replicas = clocks(2, facts=facts)
    for rank, one in enumerate(replicas):
        one.joined([rank * INDEX_STRIDE, rank * INDEX_STRIDE + 1], [0, 1])
    for _ in range(60):
        for rank, one in enumerate(replicas):
            one.on_episode(rank * INDEX_STRIDE, end(1.0), "client")
            one.on_episode(rank * INDEX_STRIDE + 1, end(3.0), "client")
        meet(replicas)
    tasks = [one.now().tasks for one in replicas]
    assert [[state[name]["episodes"]["num_episodes"] for name in "ab"] for state in tasks] == [[120, 120]] * 2
    assert tasks[0]["b"]["cohorts"]["newest"]["mean"] == 3.0
    assert [tasks[0][name]["agent_steps"] for name in "ab"] == [60 * 7] * 2  # those of the other one, by its episodes
    assert replicas[0].now().cohort_record.newest == replicas[1].now().cohort_record.newest
    assert replicas[0].episodes.take()[1].task == "b"


def test_environments_of_a_learner_that_is_gone_owe_no_episode() -> None:
    """Or a cohort would wait for them for ever."""
    replicas = clocks(2)
    indices = [[rank * INDEX_STRIDE + i for i in range(4)] for rank in range(2)]
    for rank, one in enumerate(replicas):
        one.joined(indices[rank], [0] * 4)
    meet(replicas)
    first = replicas[0]
    assert first.cohorts.num_present == 8
    first.miss(1)
    assert first.cohorts.num_present == 4
    for turn in range(40):
        for index in indices[0]:
            first.on_episode(index, end(float(turn)), "client")
        first.hear([from_row(to_row(first.tell(64), 64)), Told(Report(), ())])
    assert first.cohorts.record.judged > 0
