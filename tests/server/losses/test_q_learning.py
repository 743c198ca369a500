"""Q-learning targets by hand on one small table, and a loss that touches only the actions taken."""

from __future__ import annotations

import math

import pytest
import torch

from seedbed.server.losses.q_learning import only_allowed, q_loss, values_of
from seedbed.server.losses.returns import lambda_returns

# Rows of one unroll: row 3 is LAST by a terminal state, row 4 FIRST, row 5 only bootstraps.
TARGET_Q = torch.tensor([[1.0, 2.0], [3.0, 8.0], [5.0, 4.0], [7.0, 9.0], [2.0, 6.0], [10.0, 0.0]])[:, None]
ACTIONS = torch.tensor([0, 0, 1, 0, 0, 1])[:, None]
REWARDS = torch.tensor([1.0, 2.0, 3.0, 100.0, 4.0])[:, None]
DISCOUNTS = 0.5 * torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])[:, None]
VALID = torch.tensor([True, True, True, False, True])[:, None]


@pytest.mark.parametrize(
    ("values", "lambda_", "expected"),
    [
        (TARGET_Q.amax(-1), 0.0, [1 + 4, 2 + 2.5, 3, 4 + 5]),
        (values_of(TARGET_Q, ACTIONS), 0.0, [1 + 1.5, 2 + 2, 3, 4 + 0]),
        (TARGET_Q.amax(-1), 1.0, [1 + 0.5 * 3.5, 2 + 1.5, 3, 4 + 5]),
    ],
    ids=["one-step Q", "one-step Sarsa", "n-step Q"],
)
def test_targets_by_hand(values: torch.Tensor, lambda_: float, expected: list[float]) -> None:
    targets = lambda_returns(rewards=REWARDS, discounts=DISCOUNTS, values=values, valid=VALID, lambda_=lambda_)
    assert targets[VALID].tolist() == expected


def test_the_loss_moves_the_actions_taken_and_nothing_else() -> None:
    q_values = TARGET_Q[:-1].clone().requires_grad_()
    targets = torch.tensor([2.0, 3.0, 0.0, math.nan, 5.0])[:, None].requires_grad_()
    loss = q_loss(q_values=q_values, actions=ACTIONS[:-1], targets=targets, valid=VALID, reduction="sum")
    assert loss.item() == 0.5 * (1 + 0 + 16 + 9)
    loss.backward()
    assert q_values.grad is not None
    assert q_values.grad[:, 0].tolist() == [[-1, 0], [0, 0], [0, 4], [0, 0], [-3, 0]]
    assert targets.grad is None


def test_steps_that_do_not_count_may_hold_anything() -> None:
    q_values = TARGET_Q[:-1].clone()
    q_values[3] = math.nan
    q_values.requires_grad_()
    actions = ACTIONS[:-1].clone()
    actions[3] = 77
    loss = q_loss(q_values=q_values, actions=actions, targets=torch.zeros(5, 1), valid=VALID, reduction="mean")
    loss.backward()
    assert q_values.grad is not None
    assert loss.item() == 0.5 * (1 + 9 + 16 + 4) / 4
    assert q_values.grad.isfinite().all()


def test_shapes_that_do_not_fit_are_explained() -> None:
    with pytest.raises(ValueError, match=r"expected actions of shape \[6, 1\] beside q_values \[6, 1\], got \[6\]"):
        values_of(TARGET_Q, ACTIONS[:, 0])


def test_forbidden_actions_are_no_maximum() -> None:
    q_values = torch.tensor([[1.0, 9.0, 3.0, 2.0], [1.0, 9.0, 3.0, 2.0]])
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0]], dtype=torch.uint8)
    assert only_allowed(q_values, mask).amax(-1).tolist() == [3.0, 9.0], "with nothing allowed all are"
    assert only_allowed(q_values, None) is q_values
