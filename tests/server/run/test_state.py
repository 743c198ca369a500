"""When a run ends. What a checkpoint holds is tested in test_checkpoint.py and in tests/system."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from seedbed.common.timestep import MAX_COUNT
from seedbed.server.options.run import RunConfig
from seedbed.server.run.cohorts import CohortRecord, Verdict
from seedbed.server.run.state import RunState

RUN = RunConfig(max_steps=1000, max_seconds=60.0, target_return=10.0)


def state(verdict: Verdict | None, **counters: Any) -> RunState:
    record = CohortRecord() if verdict is None else CohortRecord().after(Verdict(50.0, 50.0, 0.0, 100)).after(verdict)
    return RunState(cohorts=json.loads(json.dumps(record.to_json())), **counters)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (state(None), None),
        (state(None, agent_steps=999, wall_s=59.9), None),
        (state(None, agent_steps=1000), "1,000 agent steps"),
        (state(None, wall_s=60.0), "60 s"),
        (state(Verdict(10.0, 10.0, 0.1, 128)), "mean return of 10.00 over a cohort of 128 episodes"),
        (state(Verdict(9.9, 12.0, 0.1, 128)), None),
        (state(Verdict(float(MAX_COUNT), 9.9, 0.1, 128)), None),
    ],
)
def test_stop_conditions(now: RunState, reason: str | None) -> None:
    """The newest cohort decides, not a better one before it; and its median too, which no single lie moves."""
    reached = now.stop_condition(RUN)
    assert reached is None if reason is None else reason in (reached or "")


def test_what_was_judged_survives_a_restart() -> None:
    before = state(Verdict(3.0, 2.0, 0.5, 100), agent_steps=7, random=torch.zeros(3))
    again = RunState.from_checkpoint(before.to_checkpoint())
    assert again.cohort_record == before.cohort_record
    assert again.cohort_record.best == Verdict(50.0, 50.0, 0.0, 100)
    assert RunState().cohort_record == CohortRecord()
