"""When a run ends. What a checkpoint holds is tested in test_checkpoint.py and in tests/system."""

from __future__ import annotations

from typing import Any

import pytest

from seedbed.common.timestep import MAX_COUNT
from seedbed.server.options.run import RunConfig
from seedbed.server.run.state import RunState

RUN = RunConfig(max_steps=1000, max_seconds=60.0, target_return=10.0)


def state(returns: list[float], **counters: Any) -> RunState:
    return RunState(
        episodes={"num_episodes": len(returns), "episodes": [[value, 1, 1] for value in returns]}, **counters
    )


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (state([]), None),
        (state([], agent_steps=999, wall_s=59.9), None),
        (state([], agent_steps=1000), "1,000 agent steps"),
        (state([], wall_s=60.0), "60 s"),
        (state([10.0] * 99), None),
        (state([10.0] * 100), "mean return of 10.00 over 100 episodes"),
        (state([9.9] * 100), None),
        (state([12.0] * 60 + [7.0] * 40), "mean return of 10.00"),
    ],
)
def test_stop_conditions(now: RunState, reason: str | None) -> None:
    reached = now.stop_condition(RUN)
    assert reached is None if reason is None else reason in (reached or "")


@pytest.mark.parametrize("lie", [1e6, float(MAX_COUNT)])
def test_a_few_absurd_returns_end_no_run(lie: float) -> None:
    """Half of the newest episodes have to be that good."""
    assert state([1.0] * 51 + [lie] * 49).stop_condition(RUN) is None
