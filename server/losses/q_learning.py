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

from seedbed.server.losses.policy_gradient import Reduction, baseline_loss


def values_of(q_values: Tensor, actions: Tensor) -> Tensor:
    """Q of the given actions.

    Args:
        q_values: `[..., A]`.
        actions: integers `[...]`.

    Raises:
        ValueError: shapes that do not fit.
    """
    if actions.shape != q_values.shape[:-1]:
        raise ValueError(
            f"expected actions of shape {list(q_values.shape[:-1])} beside Q-values {list(q_values.shape)}, "
            f"got {list(actions.shape)}"
        )
    return q_values.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)


def q_loss(*, q_values: Tensor, actions: Tensor, targets: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """Half the squared error of Q(s_t, a_t), reduced; no gradient flows through the targets.

    Args:
        q_values: of the parameters being learnt, `[T, B, A]`.
        actions: integers `[T, B]`.
        targets: `[T, B]`.
        valid: bool `[T, B]`; other steps change neither loss nor gradient, whatever they hold.
        reduction: "sum" as in the paper's accumulated gradients, or "mean" over valid steps.
    """
    q_values = torch.where(valid.unsqueeze(-1), q_values, 0.0)
    chosen = values_of(q_values, torch.where(valid, actions, 0))
    return baseline_loss(values=chosen, targets=targets, valid=valid, reduction=reduction)
