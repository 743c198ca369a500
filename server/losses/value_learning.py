"""n-step double Q-learning on replayed unrolls: targets, loss and priorities (R2D2; Ape-X, arXiv 1803.00933).

Only arithmetic. Layout and validity are those of `vtrace.py`: an unroll has T+1 rows, transition t leads from row t to
row t+1 and is valid unless it is the dummy from LAST to FIRST or was not received. What is invalid may hold anything,
NaN included.

Shapes: T transitions, B unrolls, A actions, time-major.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seedbed.server.losses.masking import check_shapes
from seedbed.server.losses.q_learning import only_allowed, values_of


@torch.no_grad()
def n_step_targets(*, rewards: Tensor, discounts: Tensor, values: Tensor, valid: Tensor, n: int) -> Tensor:
    """Returns over n steps, fewer where the unroll or the episode ends before.

        G_t^(0) = V_t
        G_t^(m) = r_{t+1} + d_{t+1} G_{t+1}^(m-1)    valid transitions; V_t elsewhere, and in the last row

    The m-th pass looks m steps ahead, so the last n - 1 transitions of an unroll shrink to n - 1 .. 1 steps, as in SEED
    RL. A terminated episode ends the sum by its discount of 0. At a time limit and at a cut the row before the invalid
    transition is the last there is, and its value bootstraps.

    Args:
        rewards: r_{t+1}, `[T, B]`.
        discounts: gamma times the environment's discount_{t+1}, `[T, B]`.
        values: what each row bootstraps with, `[T+1, B]`.
        valid: bool `[T, B]`.
        n: at least 1.

    Returns:
        `[T, B]`; V_t where the transition is invalid.

    Raises:
        ValueError: shapes or n that do not fit.
    """
    check_shapes({"values": values}, rewards=rewards, discounts=discounts, valid=valid)
    if n < 1:
        raise ValueError(f"expected n of at least 1, got {n}")
    returns = values
    for _ in range(n):
        ahead = torch.where(valid, rewards + discounts * returns[1:], values[:-1])
        returns = torch.cat((ahead, values[-1:]))
    return returns[:-1]


@torch.no_grad()
def double_q_values(q_online: Tensor, q_target: Tensor, mask: Tensor | None = None) -> Tensor:
    """What the target network makes of the action that the learnt one prefers (van Hasselt et al. 2016).

    Args:
        q_online, q_target: `[..., A]`.
        mask: `[..., A]`, 0 for actions that nobody may prefer.

    Returns:
        `[...]`.
    """
    return values_of(q_target, only_allowed(q_online, mask).argmax(-1))


def unroll_losses(errors: Tensor, valid: Tensor) -> Tensor:
    """Half the sum of squared errors of each unroll over valid transitions, `[T, B]` to `[B]`."""
    return 0.5 * torch.where(valid, errors, 0.0).square().sum(0)


@torch.no_grad()
def unroll_priorities(errors: Tensor, valid: Tensor, eta: float) -> Tensor:
    """eta * max |error| + (1 - eta) * mean |error| of each unroll over valid transitions (R2D2, section 2.3).

    An unroll with a valid transition is worth something even without an error (1e-6, Ape-X); one without is worth 0.

    Args:
        errors: `[T, B]`.
        valid: bool `[T, B]`.
        eta: 0 to 1.

    Returns:
        `[B]`.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"expected eta between 0 and 1, got {eta}")
    sizes = torch.where(valid, errors.abs(), 0.0)
    mean = sizes.sum(0) / valid.sum(0).clamp(min=1)
    return torch.where(valid.any(0), eta * sizes.amax(0) + (1 - eta) * mean + _SMALLEST_PRIORITY, 0.0)


_SMALLEST_PRIORITY = 1e-6
