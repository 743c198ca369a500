"""Returns as A3C's paper writes them (arXiv 1602.01783, algorithms S2 and S3): backwards, one unroll, plain numbers."""

from __future__ import annotations

from collections.abc import Sequence


def n_step_returns(
    rewards: Sequence[float], discounts: Sequence[float], values: Sequence[float], valid: Sequence[bool]
) -> list[float | None]:
    """R <- r_i + gamma R, from the value of the last row; None where nothing is learnt.

    Args:
        rewards, discounts: of T transitions; a discount of 0 is a terminal state.
        values: of T + 1 rows.
        valid: of T transitions; another one ends the sum, and the row before it bootstraps.
    """
    returns: list[float | None] = []
    following = values[-1]
    for t in reversed(range(len(rewards))):
        if valid[t]:
            following = rewards[t] + discounts[t] * following
            returns.append(following)
        else:
            following = values[t]
            returns.append(None)
    return returns[::-1]


def q_lambda_returns(
    rewards: Sequence[float], discounts: Sequence[float], values: Sequence[float], valid: Sequence[bool], lambda_: float
) -> list[float | None]:
    """G <- r + gamma (lambda G + (1 - lambda) max Q(s')), as PQN's paper has it (arXiv 2407.04811, section 4).

    Args:
        rewards, discounts, valid: as above.
        values: max Q of T + 1 rows.
        lambda_: 0 to 1.
    """
    returns: list[float | None] = []
    following = values[-1]
    for t in reversed(range(len(rewards))):
        if valid[t]:
            following = rewards[t] + discounts[t] * (lambda_ * following + (1 - lambda_) * values[t + 1])
            returns.append(following)
        else:
            following = values[t]
            returns.append(None)
    return returns[::-1]
