"""Returns that bootstrap: the recursion that actor-critics and n-step Q-learning have in common.

Only arithmetic: no network, no reduction over steps, no gradient. Layout and validity are those of `vtrace.py`: an
unroll has T+1 rows, transition t leads from row t to row t+1, and invalid transitions (the dummy LAST -> FIRST pair,
and what follows a cut) end every sum: the value of the row before them bootstraps.

Shapes: T transitions, B unrolls, time-major.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seedbed.server.losses.masking import check_shapes


@torch.no_grad()
def lambda_returns(
    *, rewards: Tensor, discounts: Tensor, values: Tensor, valid: Tensor, lambda_: float = 1.0
) -> Tensor:
    """TD(lambda) returns (Sutton and Barto 2018, equation 12.20).

        G_t = r_{t+1} + d_{t+1} (lambda G_{t+1} + (1 - lambda) V_{t+1}),    G_T = V_T

    At lambda 1 each step gets the longest return its unroll allows (n-step returns of A3C, arXiv 1602.01783, algorithm
    S3), at 0 one step and a value. G - V is GAE(lambda) (arXiv 1506.02438, equation 16).

    Args:
        rewards: r_{t+1}, already clipped if that is wanted, `[T, B]`.
        discounts: gamma times the environment's discount_{t+1}, `[T, B]`.
        values: what each row is worth: state values, or the Q-value of the action that counts, `[T+1, B]`.
        valid: bool `[T, B]`. Invalid transitions may hold anything, NaN included.
        lambda_: 0 to 1.

    Returns:
        `[T, B]`; V_t where the transition is invalid.

    Raises:
        ValueError: shapes or lambda that do not fit.
    """
    check_shapes({"values": values}, rewards=rewards, discounts=discounts, valid=valid)
    if not 0 <= lambda_ <= 1:
        raise ValueError(f"expected lambda_ between 0 and 1, got {lambda_}")
    values_tm1, values_t = values[:-1], values[1:]
    deltas = torch.where(valid, rewards + discounts * values_t - values_tm1, 0.0)
    return values_tm1 + accumulate(deltas, torch.where(valid, discounts * lambda_, 0.0))


def accumulate(deltas: Tensor, decays: Tensor) -> Tensor:
    """Solves e_t = delta_t + decay_t e_{t+1} with e_T = 0, backwards; all `[T, B]`."""
    error = torch.zeros_like(deltas[0])
    errors = []
    for delta, decay in zip(reversed(deltas.unbind()), reversed(decays.unbind()), strict=True):
        error = torch.addcmul(delta, decay, error)
        errors.append(error)
    return torch.stack(errors[::-1])
