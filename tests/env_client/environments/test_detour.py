"""Detour, whose averages and variances are known."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed.common.errors import SpecError
from seedbed.common.timestep import StepType
from seedbed.env_client.environments.building import make_environments

NUM_ROWS = 32


@pytest.mark.parametrize(
    ("goes_out", "goes_on", "mean", "variance"),
    [(0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 1.25, 1.5625), (1.0, 1.0, 1.5, 11.25), (1.0, 0.26702924, 1.33834113, 5.0)],
)
def test_detour_pays_what_stationary_policies_are_known_for(
    goes_out: float, goes_on: float, mean: float, variance: float
) -> None:
    environments = make_environments("seedbed/Detour-v0,steps=7", "", range(NUM_ROWS), 0)
    rng = np.random.default_rng(1)
    rows, rewards, lasts = environments.reset(), [], 0
    for _ in range(800):
        last = rows.step_type == StepType.LAST
        state = rows.observations[0]
        assert (state.sum(axis=1) == 1).all()
        actions = (rng.random(NUM_ROWS) < np.where(state[:, 0] == 1, goes_out, goes_on)).astype(np.int64)
        before = state.copy()
        rows = environments.step((actions,))
        if last.any():  # the answer to a LAST row is a FIRST one: the same state, and no step
            assert (rows.observations[0][last] == before[last]).all()
        rewards.append(rows.reward[~last])
        lasts += int((rows.step_type == StepType.LAST).sum())
        assert rows.discount.tolist() == [1.0] * NUM_ROWS
    assert lasts > 2500
    paid = np.concatenate(rewards)
    assert paid.mean() == pytest.approx(mean, abs=0.05)
    assert paid.var() == pytest.approx(variance, abs=0.35)


def test_detour_has_a_time_limit() -> None:
    with pytest.raises(SpecError, match="expected steps of at least 1, got 0"):
        make_environments("seedbed/Detour-v0,steps=0", "", [0], 0)
