"""The terms of an actor-critic loss for categorical policies, each reduced over valid steps.

Every `*_loss` takes the validity mask, because masking afterwards is not enough: the gradient of a selected-away NaN
is 0 * NaN. So inputs are replaced before they are used, and an invalid step changes neither loss nor gradient,
whatever it holds.

Shapes: T transitions, B unrolls, A actions; functions without a mask take any leading dimensions.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["sum", "mean"]


def log_prob(logits: Tensor, actions: Tensor) -> Tensor:
    """The log probability of integer `actions` `[...]` under softmax(`logits` `[..., A]`)."""
    if actions.shape != logits.shape[:-1]:
        raise ValueError(
            f"expected actions of shape {list(logits.shape[:-1])} beside logits {list(logits.shape)}, "
            f"got {list(actions.shape)}"
        )
    return F.log_softmax(logits, dim=-1).gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)


def entropy(logits: Tensor) -> Tensor:
    """The entropy of softmax(`logits` `[..., A]`) in nats, `[...]`."""
    log_policy = F.log_softmax(logits, dim=-1)
    return -(log_policy.exp() * log_policy).sum(-1)


def kl_divergence(behaviour_logits: Tensor, logits: Tensor) -> Tensor:
    """KL(mu || pi) in nats, exact, from two `[..., A]`; `[...]`."""
    _check_same_shape(behaviour_logits=behaviour_logits, logits=logits)
    log_behaviour = F.log_softmax(behaviour_logits, dim=-1)
    return (log_behaviour.exp() * (log_behaviour - F.log_softmax(logits, dim=-1))).sum(-1)


def masked_reduce(x: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """The sum or mean of `x` over the steps where `valid` (same shape) holds; 0 where none does.

    The gradient with respect to an invalid element of `x` is 0, but what computed it must itself be free of NaN.
    """
    _check_same_shape(x=x, valid=valid)
    total = torch.where(valid, x, 0.0).sum()
    if reduction == "sum":
        return total
    if reduction == "mean":
        return total / valid.sum().clamp(min=1)
    raise ValueError(f"expected reduction 'sum' or 'mean', got {reduction!r}")


def policy_gradient_loss(
    *, logits: Tensor, actions: Tensor, advantages: Tensor, valid: Tensor, reduction: Reduction
) -> Tensor:
    """-log pi(a_t) A_t, reduced; no gradient flows through the advantages.

    Args:
        logits: of the policy being learnt, `[T, B, A]`.
        actions: integers `[T, B]`.
        advantages: `[T, B]`, with whatever importance weights they need.
        valid: bool `[T, B]`.
        reduction: "sum" as in IMPALA, "mean" over valid steps as in SEED RL.
    """
    _check_same_shape(advantages=advantages, valid=valid)
    logits = torch.where(valid.unsqueeze(-1), logits, 0.0)
    actions = torch.where(valid, actions, 0)
    advantages = torch.where(valid, advantages.detach(), 0.0)
    return masked_reduce(-log_prob(logits, actions) * advantages, valid, reduction)


def baseline_loss(*, values: Tensor, targets: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """Half the squared error of the values, reduced; no gradient flows through the targets.

    The half is part of the loss here as in SEED RL and IMPALA's code, so their baseline cost of 0.5 weighs the plain
    squared error by 0.25.

    Args:
        values: V_t without the bootstrap row, `[T, B]`.
        targets: `[T, B]`.
        valid: bool `[T, B]`.
        reduction: "sum" or "mean" over valid steps.
    """
    _check_same_shape(values=values, targets=targets)
    errors = torch.where(valid, targets.detach() - values, 0.0)
    return masked_reduce(0.5 * errors.square(), valid, reduction)


def entropy_loss(*, logits: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """Minus the entropy of the policy, reduced, from logits `[T, B, A]` and valid `[T, B]`."""
    logits = torch.where(valid.unsqueeze(-1), logits, 0.0)
    return masked_reduce(-entropy(logits), valid, reduction)


def _check_same_shape(**arrays: Tensor) -> None:
    (name, array), (other_name, other) = arrays.items()
    if array.shape != other.shape:
        raise ValueError(
            f"expected {name} and {other_name} of one shape, got {list(array.shape)} and {list(other.shape)}"
        )
