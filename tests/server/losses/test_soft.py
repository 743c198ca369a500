"""Soft targets and losses against numbers from an independent float64 implementation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seedbed.server.losses.soft import actor_loss, critic_loss, soft_n_step_targets, temperature_loss


def column(*values: float) -> Tensor:
    """`[T, 1]`."""
    return torch.tensor(values, dtype=torch.float64)[:, None]


def row(*values: float) -> Tensor:
    """`[1, B]`."""
    return torch.tensor([values], dtype=torch.float64)


ALL = torch.ones(1, 2, dtype=torch.bool)
Q_AHEAD = torch.tensor([[[5.0, 2.0]], [[4.0, 3.0]]], dtype=torch.float64)
LOG_PROB_AHEAD = row(-1.5, 0.7)
VALUES = Q_AHEAD.amin(0) - 0.2 * LOG_PROB_AHEAD
TARGETS = row(5.257, -0.5)


def one_step(values: Tensor) -> Tensor:
    return soft_n_step_targets(
        rewards=row(1.0, -0.5),
        discounts=row(0.99, 0.0),
        values=values,
        bonuses=-0.2 * LOG_PROB_AHEAD,
        valid=ALL,
        n=1,
    )


def test_one_step_targets() -> None:
    torch.testing.assert_close(one_step(VALUES), TARGETS)


def test_nothing_is_behind_the_end_of_an_episode() -> None:
    """It is selected away, not multiplied: 0 * NaN is NaN."""
    torch.testing.assert_close(one_step(row(float(VALUES[0, 0]), math.nan)), TARGETS)


def test_losses() -> None:
    q_values = torch.tensor([[[4.0, 0.5]], [[5.0, -1.5]]], dtype=torch.float64)
    loss = critic_loss(q_values=q_values, targets=TARGETS, valid=ALL)
    torch.testing.assert_close(loss, torch.tensor(0.9115245, dtype=torch.float64))
    assert float(actor_loss(values=VALUES, valid=ALL)) == pytest.approx(-3.08)


@pytest.mark.parametrize(("entropy", "gradient"), [(0.4, 1.4), (-1.3, -0.3)])
def test_entropy_above_its_target_makes_the_temperature_fall(entropy: float, gradient: float) -> None:
    """One step of gradient descent of size s leaves log alpha - s (H - H*)."""
    log_alpha = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    entropies = row(entropy + 0.1, entropy - 0.1).requires_grad_()
    loss = temperature_loss(log_alpha=log_alpha, entropies=entropies, targets=-1.0, valid=ALL)
    loss.backward()
    assert float(log_alpha.grad or 0.0) == pytest.approx(gradient)
    assert entropies.grad is None


LOG_PROBS = column(0.5, -0.2, 0.1)


def three_steps(valid: tuple[bool, bool, bool] = (True, True, True), alpha: float = 0.2, last: float = 0.99) -> float:
    """Of rewards 1, 2, 3 and a value of 10 in every row."""
    targets = soft_n_step_targets(
        rewards=column(1.0, 2.0, 3.0),
        discounts=column(0.99, 0.99, last),
        values=10.0 - alpha * LOG_PROBS,
        bonuses=-alpha * LOG_PROBS,
        valid=torch.tensor(valid)[:, None],
        n=3,
    )
    return float(targets[0])


def test_several_steps_count_the_entropy_of_the_rows_between() -> None:
    assert three_steps() == pytest.approx(15.544088)
    assert three_steps(alpha=0.0) == pytest.approx(1 + 1.98 + 2.9403 + 9.70299)


def test_a_lookahead_that_was_cut_bootstraps_from_the_last_row_there_is() -> None:
    assert three_steps((True, False, False)) == pytest.approx(1 + 0.99 * (10 - 0.2 * 0.5))
    between = 1 + 0.99 * (-0.2 * 0.5 + 2 + 0.99 * (10 + 0.2 * 0.2))
    assert three_steps((True, True, False)) == pytest.approx(between)
    assert three_steps((True, False, True)) == pytest.approx(1 + 0.99 * (10 - 0.2 * 0.5)), "another episode is behind"


def test_an_end_between_the_steps_ends_the_sum() -> None:
    expected = 1 + 0.99 * (-0.2 * 0.5 + 2 + 0.99 * (0.2 * 0.2 + 3))
    assert three_steps(last=0.0) == pytest.approx(expected)


def test_what_is_invalid_changes_nothing() -> None:
    valid = torch.tensor([[True, False]])
    q_values = torch.tensor([[[4.0, math.nan]], [[5.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    loss = critic_loss(q_values=q_values, targets=row(5.0, math.inf), valid=valid)
    assert float(loss.detach()) == 0.5
    loss.backward()
    assert q_values.grad is not None
    assert q_values.grad.tolist() == [[[-1.0, 0.0]], [[0.0, 0.0]]]
    none = torch.zeros_like(valid)
    assert float(critic_loss(q_values=q_values.detach(), targets=row(5.0, 1.0), valid=none)) == 0.0
    assert float(actor_loss(values=row(1.0, math.nan), valid=valid)) == -1.0


@pytest.mark.parametrize("n", [0, -1])
def test_numbers_of_steps_that_make_no_sense(n: int) -> None:
    with pytest.raises(ValueError, match="n of at least 1"):
        soft_n_step_targets(rewards=VALUES, discounts=VALUES, values=VALUES, bonuses=VALUES, valid=ALL, n=n)
