"""A step of the policy that does not fade where the policy is nearly certain: energies moved by advantages.

The policy is the softmax of energies, and the step that trades advantage for closeness to the acting policy, mu, has
the closed form (natural policy gradient of a softmax; Zhong et al. 2020, arXiv 2012.14098, and before them Liu et al.
2019, arXiv 1906.10306)

    log pi'(a) = log mu(a) + delta(a) + const,    delta(a) = step (A(a) - temperature (log mu(a) + H(mu)))

A plain policy gradient moves a logit by pi(a) A(a) instead, which is nothing for an action that is hardly ever taken.
The temperature draws towards the even policy; its term has mean 0 under mu.

Shapes: T transitions, B unrolls.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seedbed.server.losses.masking import Reduction, check_shapes, masked_reduce

LARGEST_WEIGHT = 100.0
"""Of a transition: actions taken less often than in a hundredth of their even share count no more than that."""


def energy_step_loss(
    *,
    log_ratios: Tensor,
    log_behaviour: Tensor,
    behaviour_entropy: Tensor,
    num_actions: float,
    advantages: Tensor,
    valid: Tensor,
    step: float,
    temperature: float,
    reduction: Reduction,
) -> Tensor:
    """Half the squared distance of log pi - log mu from delta, over the step, reduced.

    Each transition weighs 1 / (A mu(a)), so that every action of a row counts alike however rarely it is taken. At
    pi = mu the gradient is that of a policy gradient with these weights; further on, it ends where the step does.

    Args:
        log_ratios: log pi(a_t) - log mu(a_t), `[T, B]`; the gradient flows.
        log_behaviour: log mu(a_t), `[T, B]`.
        behaviour_entropy: H(mu), `[T, B]`.
        num_actions: A, from how many an action is taken.
        advantages: `[T, B]`.
        valid: bool `[T, B]`; other steps change neither loss nor gradient.
        step: of the energies, for an advantage of 1; more than 0.
        temperature: in the unit of advantages.
        reduction: "sum" or "mean" over valid steps.
    """
    check_shapes(
        valid=valid,
        log_ratios=log_ratios,
        log_behaviour=log_behaviour,
        entropy=behaviour_entropy,
        advantages=advantages,
    )
    log_behaviour = torch.where(valid, log_behaviour.detach(), 0.0)
    surprise = log_behaviour + torch.where(valid, behaviour_entropy.detach(), 0.0)
    wanted = step * (torch.where(valid, advantages.detach(), 0.0) - temperature * surprise)
    weights = (-log_behaviour).exp().div(num_actions).clamp(max=LARGEST_WEIGHT)
    return masked_reduce(weights * (log_ratios - wanted).square() / (2.0 * step), valid, reduction)
