"""The clipped surrogate by hand: where it has a gradient and where it must have none."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seedbed.server.losses.masking import only_valid
from seedbed.server.losses.policy_gradient import policy_gradient_loss
from seedbed.server.losses.ppo import clipped_surrogate_loss, normalise

ALL = torch.ones(4, 1, dtype=torch.bool)


def logits_of(probabilities: list[float]) -> Tensor:
    """Two actions; the probability of action 0 is given, `[T, 1, 2]`."""
    return torch.tensor([[[math.log(p), math.log(1 - p)]] for p in probabilities])


def surrogate(logits: Tensor, advantages: list[float], valid: Tensor = ALL) -> Tensor:
    """Action 0 throughout, of behaviour probability 1/2, epsilon 0.2."""
    return clipped_surrogate_loss(
        log_ratios=only_valid(logits, valid).log_softmax(-1)[..., 0] - math.log(0.5),
        advantages=torch.tensor(advantages)[:, None],
        valid=valid,
        clip_ratio=0.2,
        reduction="sum",
    )


def test_by_hand() -> None:
    """Ratios 1.5, 1.5, 0.5, 0.5: the smaller of the two terms counts, whatever the sign of the advantage."""
    loss = surrogate(logits_of([0.75, 0.75, 0.25, 0.25]), [2.0, -2.0, 2.0, -2.0])
    assert loss.item() == pytest.approx(-(1.2 * 2 - 1.5 * 2 + 0.5 * 2 - 0.8 * 2))


def test_a_policy_that_went_far_enough_is_not_pushed_on_but_may_come_back() -> None:
    logits = logits_of([0.75, 0.75, 0.25, 0.25]).requires_grad_()
    surrogate(logits, [2.0, -2.0, 2.0, -2.0]).backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum((1, 2)).gt(0).tolist() == [False, True, True, False]


def test_at_the_behaviour_policy_its_gradient_is_the_policy_gradient() -> None:
    ours, theirs = (logits_of([0.5] * 4).requires_grad_() for _ in range(2))
    advantages = [1.0, -3.0, 0.5, 2.0]
    surrogate(ours, advantages).backward()
    log_probs = theirs.log_softmax(-1)[..., 0]
    policy_gradient_loss(
        log_probs=log_probs, advantages=torch.tensor(advantages)[:, None], valid=ALL, reduction="sum"
    ).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_steps_that_do_not_count_may_hold_anything() -> None:
    valid = torch.tensor([True, False, True, True])[:, None]
    logits = logits_of([0.5, 0.5, 0.6, 0.4])
    logits[1] = math.nan
    logits.requires_grad_()
    loss = surrogate(logits, [1.0, math.nan, 1.0, 1.0], valid)
    loss.backward()
    assert loss.item() == pytest.approx(-(1 + 1.2 + 0.8))
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_normalised_advantages() -> None:
    valid = torch.tensor([[True, True], [True, False]])
    advantages = normalise(torch.tensor([[1.0, 2.0], [3.0, math.nan]]), valid)
    assert advantages[1, 1] == 0
    assert advantages.sum().item() == pytest.approx(0)
    assert advantages.square().sum().item() == pytest.approx(3)
    assert normalise(torch.full((2, 2), 5.0), valid).tolist() == [[0, 0], [0, 0]], "equal ones say nothing"
    assert normalise(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool)).tolist() == [[0, 0], [0, 0]]


def test_what_does_not_fit_is_explained() -> None:
    with pytest.raises(ValueError, match=r"expected advantages of shape \[4, 1\] beside valid \[4, 1\], got \[3, 1\]"):
        surrogate(logits_of([0.5] * 4), [1.0] * 3)
