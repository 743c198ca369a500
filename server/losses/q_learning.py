"""Learning action values without a replay, as the asynchronous methods do (arXiv 1602.01783, algorithms 1, S1 and S2).

What a step is worth is a bootstrapped return (`returns.lambda_returns`); the three methods differ in the value of a row
and in how far they look:

    one-step Q       max_a Q(s, a; target)                  lambda 0
    one-step Sarsa   Q(s, a; target), a the action taken    lambda 0
    n-step Q         max_a Q(s, a; target)                  lambda 1

Shapes: T transitions, B unrolls, A actions, time-major.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seedbed.server.losses.masking import Reduction, check_shapes, only_valid
from seedbed.server.losses.policy_gradient import baseline_loss


def values_of(q_values: Tensor, actions: Tensor) -> Tensor:
    """Q of the given actions.

    Args:
        q_values: `[..., A]`.
        actions: integers `[...]`.

    Raises:
        ValueError: shapes that do not fit.
    """
    check_shapes(q_values=q_values[..., 0], actions=actions)
    return q_values.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)


def only_allowed(q_values: Tensor, mask: Tensor | None) -> Tensor:
    """Q-values for a maximum: -infinity where an action is not allowed.

    Args:
        q_values: `[..., A]`.
        mask: `[..., A]`, 0 for what is not allowed; a row without anything allowed counts as all allowed, as rows are
            where an episode has ended. None: everything is.
    """
    if mask is None:
        return q_values
    allowed = mask != 0
    return q_values.masked_fill(~allowed & allowed.any(-1, keepdim=True), -torch.inf)


def q_loss(*, q_values: Tensor, actions: Tensor, targets: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """Half the squared error of Q(s_t, a_t), reduced; no gradient flows through the targets.

    Args:
        q_values: of the parameters being learnt, `[T, B, A]`.
        actions: integers `[T, B]`.
        targets: `[T, B]`.
        valid: bool `[T, B]`; other steps change neither loss nor gradient, whatever they hold.
        reduction: "sum" as in the paper's accumulated gradients, or "mean" over valid steps.
    """
    chosen = values_of(only_valid(q_values, valid), only_valid(actions, valid))
    return baseline_loss(values=chosen, targets=targets, valid=valid, reduction=reduction)
