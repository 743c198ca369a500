"""The terms of an actor-critic loss, each reduced over valid steps.

What they take of a policy, log probabilities and entropies, may be of any action distribution. It must be free of NaN
on steps that are not valid as well, see `masking.only_valid`; the other inputs may hold anything there.

Shapes: T transitions, B unrolls.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seedbed.server.losses.masking import Reduction, check_shapes, masked_reduce


def policy_gradient_loss(*, log_probs: Tensor, advantages: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """-log pi(a_t) A_t, reduced; no gradient flows through the advantages.

    Args:
        log_probs: of the actions taken, under the policy being learnt, `[T, B]`.
        advantages: `[T, B]`, with whatever importance weights they need.
        valid: bool `[T, B]`.
        reduction: "sum" as in IMPALA, "mean" over valid steps as in SEED RL.

    Raises:
        ValueError: shapes that do not fit.
    """
    check_shapes(valid=valid, log_probs=log_probs, advantages=advantages)
    advantages = torch.where(valid, advantages.detach(), 0.0)
    return masked_reduce(-log_probs * advantages, valid, reduction)


def baseline_loss(*, values: Tensor, targets: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """Half the squared error of the values, reduced; no gradient flows through the targets.

    The half is part of the loss here as in SEED RL and IMPALA's code, so their baseline cost of 0.5 weighs the plain
    squared error by 0.25.

    Args:
        values: V_t without the bootstrap row, `[T, B]`; on invalid steps they may hold anything.
        targets: `[T, B]`.
        valid: bool `[T, B]`.
        reduction: "sum" or "mean" over valid steps.

    Raises:
        ValueError: shapes that do not fit.
    """
    check_shapes(valid=valid, values=values, targets=targets)
    errors = torch.where(valid, targets.detach() - values, 0.0)
    return masked_reduce(0.5 * errors.square(), valid, reduction)


def entropy_loss(*, entropies: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """Minus the entropy of the policy, reduced, from entropies and valid `[T, B]`."""
    return masked_reduce(-entropies, valid, reduction)
