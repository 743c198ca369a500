"""The bound on the variance of rewards: its dual, its gradient, its projection, and what units do to it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from seedbed.common.errors import UsageError
from seedbed.server.networks.risk import RiskBound
from seedbed.server.options.risk import RiskConfig

# Detour's moments of reward under stationary policies that go out with probability o, and on with c.
REWARDS = torch.tensor([0.0, 1.0, 2.5, 9.0], dtype=torch.float64)


def bound(alpha: float, multiplier: float = 0.0, dual: float = 0.0, **options: float) -> RiskBound:
    made = RiskBound(RiskConfig(risk_variance=alpha, **options))
    made.multiplier.fill_(multiplier)
    made.dual.fill_(dual)
    made.updates.fill_(1e9)
    return made


def moments(out: float, on: float) -> tuple[float, float]:
    """Means of r and r^2 on Detour."""
    home = 1 / (1 + out + out * on)
    road, win = out * home, out * on * home / 2
    first = home * (1 - out) + road * (1 - on) * 2.5 + 9 * win
    return first, home * (1 - out) + road * (1 - on) * 6.25 + 81 * win


def lagrangian(out: float, on: float, multiplier: float, dual: float, alpha: float) -> float:
    first, second = moments(out, on)
    return (1 + 2 * multiplier * dual) * first - multiplier * second + multiplier * (alpha - dual**2)


def test_the_greatest_over_the_dual_is_the_variance_itself() -> None:
    first, second = moments(0.6, 0.3)
    duals = np.linspace(-3, 3, 6001)
    found = [lagrangian(0.6, 0.3, 0.7, dual, 2.0) for dual in duals]
    assert duals[int(np.argmax(found))] == pytest.approx(first, abs=1e-3)
    assert max(found) == pytest.approx(first - 0.7 * (second - first**2 - 2.0), abs=1e-6)


@pytest.mark.parametrize(
    ("alpha", "multiplier", "dual", "expected"),
    [
        (5.0, 0.02575772, 1.33834113, [0.0, 1.043188, 2.511377, 7.534132]),
        (1.0, 0.16169042, 1.15767078, [0.0, 1.212678, 2.425356, -0.727607]),
    ],
)
def test_rewards_at_the_optima_of_detour(alpha: float, multiplier: float, dual: float, expected: list[float]) -> None:
    found = bound(alpha, multiplier, dual).adjusted(REWARDS)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("alpha", "out", "on", "multiplier"), [(5.0, 1.0, 0.26702924, 0.02575772), (1.0, 0.46058230, 0.0, 0.16169042)]
)
def test_at_the_optimum_nothing_wants_to_move(alpha: float, out: float, on: float, multiplier: float) -> None:
    """Neither the probability that is not at an edge, nor y, nor lambda."""
    first, second = moments(out, on)
    assert second - first**2 == pytest.approx(alpha, abs=1e-6)
    step = 1e-4
    towards = (step, 0.0) if out < 1 else (0.0, step)
    up = lagrangian(out + towards[0], on + towards[1], multiplier, first, alpha)
    down = lagrangian(out - towards[0], on - towards[1], multiplier, first, alpha)
    assert (up - down) / (2 * step) == pytest.approx(0.0, abs=1e-6)
    risk = bound(alpha, multiplier, first)
    risk.mean.fill_(first)
    risk.second.fill_(second)
    risk.merge(torch.tensor([1000.0, 1000.0 * first, 1000.0 * second], dtype=torch.float64))
    assert float(risk.dual) == pytest.approx(first, abs=1e-9)
    assert float(risk.multiplier) == pytest.approx(multiplier, abs=1e-8)


def test_the_multiplier_follows_the_variance_and_stays_within_its_limits() -> None:
    calm = torch.tensor([10.0, 10.0, 10.0], dtype=torch.float64)  # always 1
    wild = torch.tensor([10.0, 0.0, 1000.0], dtype=torch.float64)  # mean 0, mean square 100
    risk = bound(
        1.0, 0.01, risk_moment_rate=1.0, risk_dual_rate=1.0, risk_multiplier_rate=0.1, risk_multiplier_limit=15.0
    )
    risk.merge(calm)
    assert (float(risk.multiplier), float(risk.dual)) == (0.0, 1.0)
    risk.merge(wild)
    assert float(risk.multiplier) == pytest.approx(0.1 * (100 - 1))
    risk.merge(wild)
    assert float(risk.multiplier) == 15.0
    assert {name: float(x) for name, x in risk.metrics().items()} == {
        "reward_mean": 0.0,
        "reward_variance": 100.0,
        "risk_multiplier": 15.0,
        "risk_dual": 0.0,
    }
    before = {name: x.clone() for name, x in risk.named_buffers()}
    risk.merge(torch.zeros(3, dtype=torch.float64))  # no learner had a row
    assert all(torch.equal(x, before[name]) for name, x in risk.named_buffers())


def test_moments_are_those_of_valid_rewards_and_the_first_update_sets_them() -> None:
    rewards = torch.tensor([[1.0, 100.0], [3.0, float("nan")]])
    risk = RiskBound(RiskConfig(risk_variance=2.0))
    sums = risk.sums(rewards, torch.tensor([[True, False], [True, True]]))
    assert sums.tolist() == [2.0, 4.0, 10.0]
    risk.merge(sums)
    assert [float(x) for x in (risk.mean, risk.second, risk.dual)] == [2.0, 5.0, 2.0]
    assert risk.multiplier == 0
    assert risk.adjusted(torch.tensor([5.0])).tolist() == [3.0]


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (1.0, 4.0)])
def test_units_and_a_constant_change_neither_policy_nor_constraint(scale: float, shift: float) -> None:
    """Rewards times k: alpha k^2, lambda / k; rewards plus a constant: nothing but mean and y."""
    alpha, rng = 2.0, np.random.default_rng(0)
    plain, other = bound(alpha), bound(alpha * scale**2)
    for risk in (plain, other):
        risk.updates.zero_()
    for _ in range(300):
        rewards = torch.from_numpy(rng.normal(1.0, 2.0, size=(8, 4)))
        valid = torch.ones(8, 4, dtype=torch.bool)
        plain.merge(plain.sums(rewards, valid))
        other.merge(other.sums(scale * rewards + shift, valid))
    assert float(plain.multiplier) > 0
    assert float(other.multiplier) == pytest.approx(float(plain.multiplier) / scale, rel=1e-9)
    assert float(other.dual) == pytest.approx(scale * float(plain.dual) + shift, rel=1e-9)
    found = other.adjusted(scale * REWARDS + shift) / scale
    torch.testing.assert_close(found, plain.adjusted(REWARDS), atol=1e-9, rtol=0)


def test_bounds_that_are_none_are_refused() -> None:
    with pytest.raises(UsageError, match="expected --risk-variance above 0, got 0"):
        RiskConfig(risk_variance=0.0)
    with pytest.raises(UsageError, match=r"expected --risk-dual-rate in \(0, 1\], got 0"):
        RiskConfig(risk_dual_rate=0.0)
    with pytest.raises(UsageError, match="expected --reward-clipping none with --risk-variance 2, got abs_one"):
        RiskConfig(risk_variance=2.0).check("abs_one")
    RiskConfig().check("abs_one")
    config = RiskConfig(risk_variance=4.0)
    assert (config.multiplier_rate, config.multiplier_limit) == (2e-3 / 8, 5.0)
    assert dataclasses.replace(config, risk_multiplier_rate=1.0, risk_multiplier_limit=2.0).multiplier_rate == 1.0
