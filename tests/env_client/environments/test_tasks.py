"""The tiny tasks, whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seedbed.common.timestep import StepType
from seedbed.env_client.environments.building import make_environments

FIRST, LAST = StepType.FIRST, StepType.LAST


def follow_ball(board: Any) -> int:
    ball, paddle = np.argwhere(board[:-1].any(axis=0)), int(board[-1].argmax())
    return 1 if not len(ball) else int(np.sign(ball[0, 0] - paddle)) + 1


def test_catch_is_won_by_following_the_ball() -> None:
    environments = make_environments("seedbed/Catch-v0", "", [0, 1, 2], 0)
    rows = environments.reset()
    ends = []
    columns = set()
    for _ in range(200):
        if rows.step_type[0] == FIRST:
            assert rows.observations[0].sum(axis=(1, 2)).tolist() == [2, 2, 2]
            columns |= set(rows.observations[0][:, 0].argmax(axis=1).tolist())
        rows = environments.step((np.array([follow_ball(board) for board in rows.observations[0]]),))
        ends += list(rows.episode_ends)
    assert columns == {0, 1, 2, 3, 4}
    assert len(ends) == 60
    assert all((end.episode_return, end.steps, end.frames) == (1.0, 9, 9) for end in ends)


def test_catch_is_lost_at_random_as_often_as_bsuite_says() -> None:
    environments = make_environments("seedbed/Catch-v0", "", range(32), 0)
    rng = np.random.default_rng(0)
    environments.reset()
    returns = [
        end.episode_return for _ in range(400) for end in environments.step((rng.integers(3, size=32),)).episode_ends
    ]
    assert set(returns) == {-1.0, 1.0}
    assert np.mean(returns) == pytest.approx(-0.6, abs=0.06)


@pytest.mark.parametrize(("suffix", "length"), [("", 7), (",length=3", 3)])
def test_memory_chain_shows_its_cue_twice_and_pays_for_the_last_action(suffix: str, length: int) -> None:
    environments = make_environments(f"seedbed/MemoryChain-v0{suffix}", "", [0], 0)
    rows = environments.reset()
    cues = set()
    for episode in range(20):
        cue = rows.observations[0][0, 2]
        cues.add(float(cue))
        seen = [rows.observations[0][0].tolist()]
        right = episode % 2
        for step in range(length + 1):
            # Only the last action counts; all the others are wrong on purpose.
            wanted = int(cue > 0)
            action = wanted if step == length and right else 1 - wanted
            rows = environments.step((np.array([action]),))
            seen.append(rows.observations[0][0].tolist())
            assert (rows.step_type[0] == LAST) == (step == length)
            assert rows.reward[0] == (0 if step < length else 1 if right else -1)
        times = [0, *range(length + 1)]
        np.testing.assert_allclose(seen, [[1 - t / length, 0, cue if t == 0 else 0] for t in times], atol=1e-6)
        assert rows.discount.tolist() == [0]
        rows = environments.step((np.array([0]),))
        assert rows.step_type.tolist() == [FIRST]
    assert cues == {-1.0, 1.0}
