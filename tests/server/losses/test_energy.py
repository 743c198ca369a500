"""The step of energies: where it ends, and that it does not fade for actions that are hardly ever taken."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seedbed.server.losses.energy import LARGEST_WEIGHT, energy_step_loss


def loss_of(logits: Tensor, behaviour: Tensor, actions: Tensor, advantages: Tensor, **options: float) -> Tensor:
    """Of rows `[T, B]` that share one policy."""
    mu = behaviour.log_softmax(-1)
    log_mu = mu[actions]
    values = {"step": 0.2, "temperature": 0.1, **options}
    return energy_step_loss(
        log_ratios=logits.log_softmax(-1)[actions] - log_mu,
        log_behaviour=log_mu,
        behaviour_entropy=-(mu.exp() * mu).sum().expand_as(log_mu),
        num_actions=len(logits),
        advantages=advantages,
        valid=torch.ones_like(actions, dtype=torch.bool),
        reduction="mean",
        **values,
    )


def test_it_ends_at_the_closed_form() -> None:
    """log pi' = log mu + step (A - temperature log mu) + const, to second order in the step."""
    behaviour = torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64)
    mu = behaviour.softmax(-1)
    advantages = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    advantages = advantages - (mu * advantages).sum()  # as advantages are
    counts = (mu * 10_000).round().long()
    actions = torch.repeat_interleave(torch.arange(3), counts)[:, None]
    logits = behaviour.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = loss_of(logits, behaviour, actions, advantages[actions], step=0.02)
        loss.backward()
        return loss

    optimiser.step(closure)
    wanted = (behaviour + 0.02 * (advantages - 0.1 * mu.log())).log_softmax(-1)
    torch.testing.assert_close(logits.detach().log_softmax(-1), wanted, atol=1e-3, rtol=0)


def test_an_action_that_is_hardly_taken_moves_as_far_as_any() -> None:
    """In a batch with as many of it as its probability says; a plain policy gradient fades with that."""
    moved = []
    for rare in (0.3, 0.02):
        behaviour = torch.tensor([math.log(1 - rare), math.log(rare)])
        num_rare = round(1000 * rare)
        actions = torch.tensor([1] * num_rare + [0] * (1000 - num_rare))[:, None]
        advantages = torch.where(actions == 1, 1.0, -rare / (1 - rare))
        logits = behaviour.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(logits, behaviour, actions, advantages, temperature=0.0), logits)
        moved.append(-float(gradient[1]))
    assert moved[1] >= moved[0] > 0.4, "a plain gradient of the second is 0.02"


def test_at_the_acting_policy_it_is_a_weighted_policy_gradient() -> None:
    behaviour = torch.tensor([0.4, -0.3, 0.1])
    actions, advantages = torch.tensor([[0], [2], [1]]), torch.tensor([[1.0], [-2.0], [0.5]])
    logits = behaviour.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(logits, behaviour, actions, advantages, temperature=0.0), logits)
    weights = 1 / (3 * behaviour.softmax(-1)[actions])
    plain = -(weights * logits.log_softmax(-1)[actions] * advantages).mean()
    torch.testing.assert_close(gradient, torch.autograd.grad(plain, logits)[0])


def test_what_is_not_valid_changes_nothing_and_weights_have_a_limit() -> None:
    valid = torch.tensor([[True], [False]])
    nan = torch.tensor([[0.0], [math.nan]])
    log_ratios = torch.tensor([[0.1], [0.0]], requires_grad=True)
    loss = energy_step_loss(
        log_ratios=log_ratios,
        log_behaviour=nan - 20.0,
        behaviour_entropy=nan,
        num_actions=2,
        advantages=nan,
        valid=valid,
        step=0.5,
        temperature=0.0,
        reduction="mean",
    )
    assert float(loss.detach()) == pytest.approx(LARGEST_WEIGHT * 0.1**2 / (2 * 0.5), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, log_ratios)
    assert gradient.isfinite().all()
    assert gradient[1] == 0
