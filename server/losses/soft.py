"""Maximum-entropy learning: targets and losses of soft actor-critics (Haarnoja et al. 2018, arXiv 1812.05905).

Only arithmetic. With alpha the temperature, in units of reward per nat, and Q the least of the critics,

    V(s)    = E_a [ Q(s, a) - alpha log pi(a|s) ] = E_a [ Q(s, a) ] + alpha H(pi(.|s))
    y       = r + d V(s')
    critic      sum over critics of the mean of 1/2 (Q_i(s, a) - y)^2
    actor       mean of - V(s), for the policy alone
    alpha       mean of log alpha (H - H*): entropy above the target H* makes alpha fall

Layout and validity are those of `vtrace.py`: transition t leads from row t to row t+1; what is invalid may hold
anything, NaN included.

Shapes: T transitions, B unrolls, N critics, time-major.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seedbed.server.losses.masking import check_shapes, masked_reduce, only_valid


@torch.no_grad()
def soft_n_step_targets(
    *, rewards: Tensor, discounts: Tensor, values: Tensor, bonuses: Tensor, valid: Tensor, n: int
) -> Tensor:
    """Soft returns over n steps, fewer where the unroll or the episode ends before.

        G_t^(1) = r_{t+1} + d_{t+1} V_{t+1}
        G_t^(m) = r_{t+1} + d_{t+1} (alpha H_{t+1} + G_{t+1}^(m-1))     where transition t+1 is valid; else G_t^(1)

    An episode that terminated has d = 0 and no value behind it, whatever stands there. At a time limit and at a cut
    the last row bootstraps.

    Args:
        rewards: r_{t+1}, `[T, B]`.
        discounts: gamma times the environment's discount_{t+1}, `[T, B]`.
        values: V of rows 1 .. T, `[T, B]`, entropy included.
        bonuses: alpha H of the same rows, `[T, B]`.
        valid: bool `[T, B]`.
        n: at least 1.

    Returns:
        `[T, B]`; of no meaning where the transition is invalid.

    Raises:
        ValueError: shapes or n that do not fit.
    """
    check_shapes(rewards=rewards, discounts=discounts, values=values, bonuses=bonuses, valid=valid)
    if n < 1:
        raise ValueError(f"expected n of at least 1, got {n}")
    ends = discounts == 0
    returns = _ahead(rewards, discounts, values, ends)
    one_step = returns
    for _ in range(n - 1):
        longer = _ahead(rewards[:-1], discounts[:-1], bonuses[:-1] + returns[1:], ends[:-1])
        returns = torch.cat((torch.where(valid[1:], longer, one_step[:-1]), one_step[-1:]))
    return returns


def critic_loss(*, q_values: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Half the squared error, the mean over valid transitions, summed over critics; none flows through the targets.

    Args:
        q_values: Q_i(s_t, a_t), `[N, T, B]`.
        targets: y, `[T, B]`.
        valid: bool `[T, B]`.
    """
    check_shapes(q_values=q_values[0], targets=targets, valid=valid)
    errors = only_valid((q_values - targets.detach()).movedim(0, -1), valid)
    return 0.5 * errors.square().sum() / valid.sum().clamp(min=1)


def actor_loss(*, values: Tensor, valid: Tensor) -> Tensor:
    """What makes the policy's own soft value larger; the gradient flows through the policy alone.

    Args:
        values: V of the policy being learnt, `[T, B]`.
        valid: bool `[T, B]`.
    """
    return -masked_reduce(values, valid, "mean")


def temperature_loss(*, log_alpha: Tensor, entropies: Tensor, targets: Tensor | float, valid: Tensor) -> Tensor:
    """log alpha times how far the entropy is above its target, in nats; the gradient flows through log alpha alone.

    The paper multiplies by alpha itself; with log alpha the step has the same size whatever alpha is.

    Args:
        log_alpha: scalar.
        entropies: H of the policy being learnt, or an estimate at one sample, `[T, B]`.
        targets: H*, `[T, B]` or a number.
        valid: bool `[T, B]`.
    """
    return log_alpha * masked_reduce((entropies - targets).detach(), valid, "mean")


def _ahead(rewards: Tensor, discounts: Tensor, returns: Tensor, ends: Tensor) -> Tensor:
    """r + d G; r where the episode ends, whatever G is."""
    return torch.where(ends, rewards, rewards + discounts * returns)
