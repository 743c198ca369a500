"""What V-trace converges to: expectations enumerated exactly, so there is no sampling noise to hide behind."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from seedbed.server.losses.policy_gradient import policy_gradient_loss
from seedbed.server.losses.vtrace import VTraceTargets, vtrace


def one_step(log_rhos: Tensor, rewards: Tensor, discounts: Tensor, values: Tensor, clip_rho: float) -> VTraceTargets:
    """Every element is an unroll of one transition."""
    return vtrace(
        log_rhos=log_rhos[None],
        rewards=rewards[None],
        discounts=discounts[None],
        values=values,
        valid=torch.ones_like(rewards[None], dtype=torch.bool),
        clip_rho=clip_rho,
        clip_c=min(1.0, clip_rho),
    )


@pytest.mark.parametrize(("clip_rho", "fixed_point"), [(1.0, 0.6), (2.0, 0.75), (math.inf, 0.8)])
def test_the_clip_of_rho_decides_whose_value_is_learnt(clip_rho: float, fixed_point: float) -> None:
    # One state, no future: mu = (.3, .7), pi = (.8, .2), reward 1 for action 0. With rho clipped at 1 the value is that
    # of the policy proportional to min(mu, pi) = (.3, .2); without clipping it is that of pi.
    mu, pi = torch.tensor([[0.3, 0.7], [0.8, 0.2]], dtype=torch.float64)
    rewards, value = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    for _ in range(300):
        values = torch.stack((value.expand(2), torch.zeros_like(rewards)))
        targets = one_step((pi / mu).log(), rewards, torch.zeros_like(rewards), values, clip_rho)
        value = value + 0.2 * (mu * (targets.vs[0] - value)).sum()
    assert value.item() == pytest.approx(fixed_point, abs=1e-9)


@pytest.mark.parametrize("clip_rho", [0.7, 1.0, 3.0, math.inf])
def test_the_value_of_the_clipped_policy_is_the_fixed_point_of_a_decision_process(clip_rho: float) -> None:
    rng = np.random.default_rng(0)
    num_states, num_actions, gamma = 4, 3, 0.9
    transition = rng.dirichlet(np.ones(num_states), size=(num_states, num_actions))
    reward = rng.normal(size=(num_states, num_actions))
    mu, pi = rng.dirichlet(np.ones(num_actions), size=(2, num_states))
    clipped = np.minimum(clip_rho * mu, pi)
    clipped /= clipped.sum(1, keepdims=True)
    value = np.linalg.solve(
        np.eye(num_states) - gamma * np.einsum("sa,sax->sx", clipped, transition), (clipped * reward).sum(1)
    )

    # All (state, action, next state) as unrolls of one transition, weighted by how likely mu is to produce them.
    shape = (num_states, num_actions, num_states)
    flat = [torch.from_numpy(np.broadcast_to(x, shape).ravel().copy()) for x in (
        np.log(pi / mu)[:, :, None], reward[:, :, None], np.float64(gamma), value[:, None, None], value[None, None, :]
    )]  # fmt: skip
    targets = one_step(flat[0], flat[1], flat[2], torch.stack(flat[3:]), clip_rho)
    errors = (targets.vs[0] - flat[3]).numpy().reshape(shape)
    expected = np.einsum("sa,sax,sax->s", mu, transition, errors)
    np.testing.assert_allclose(expected, 0.0, atol=1e-12)


@pytest.mark.parametrize(("corrected", "winner"), [(True, 0), (False, 1)])
def test_learning_off_policy_needs_the_correction(corrected: bool, winner: int) -> None:
    # A bandit played by a policy that never changes and prefers arm 1. Arm 0 pays best. Without rho, V is mu's value,
    # above which arm 1 lies as well, and being pulled more often it wins; with it, V grows with pi, past arm 1.
    mu = torch.tensor([0.05, 0.9, 0.05], dtype=torch.float64)
    rewards = torch.tensor([1.0, 0.9, 0.0], dtype=torch.float64)
    valid = torch.ones(1, 3, dtype=torch.bool)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    value = torch.tensor(0.0, dtype=torch.float64)
    for _ in range(1500):
        log_pi = logits.log_softmax(-1)  # of the three arms, each pulled once
        log_rhos = log_pi.detach() - mu.log() if corrected else torch.zeros(3, dtype=torch.float64)
        values = torch.stack((value.expand(3), torch.zeros_like(rewards)))
        targets = one_step(log_rhos, rewards, torch.zeros_like(rewards), values, clip_rho=1.0)
        value = value + (mu * (targets.vs[0] - value)).sum()
        loss = policy_gradient_loss(
            log_probs=log_pi[None],
            advantages=mu * targets.advantages,
            valid=valid,
            reduction="sum",
        )
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= 4.0 * gradient
    assert torch.softmax(logits, dim=0)[winner] > 0.9
