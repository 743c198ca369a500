"""n-step double Q-learning written as in the papers: one unroll, one transition, one sum at a time, in plain floats."""

from __future__ import annotations

import math
from collections.abc import Sequence


def textbook_rescale(x: float, epsilon: float = 1e-3) -> float:
    """R2D2, section 2.3."""
    return math.copysign(math.sqrt(abs(x) + 1) - 1, x) + epsilon * x


def textbook_unrescale(x: float, epsilon: float = 1e-3) -> float:
    """Its inverse; in float64, where the cancellation costs nothing that matters."""
    root = (math.sqrt(1 + 4 * epsilon * (abs(x) + 1 + epsilon)) - 1) / (2 * epsilon)
    return math.copysign(root**2 - 1, x)


def n_step_target(
    start: int,
    rewards: Sequence[float],
    discounts: Sequence[float],
    values: Sequence[float],
    valid: Sequence[bool],
    n: int,
) -> float:
    """What transition `start` of one unroll is worth: n rewards, then a value; fewer where something ends."""
    total, weight, t = 0.0, 1.0, start
    while t < len(rewards) and t < start + n and valid[t]:
        total += weight * rewards[t]
        weight *= discounts[t]
        t += 1
    return total + weight * values[t] if weight else total


def priority(errors: Sequence[float], eta: float) -> float:
    """R2D2, section 2.3."""
    sizes = [abs(error) for error in errors]
    return eta * max(sizes) + (1 - eta) * sum(sizes) / len(sizes)
