"""Exploration by environment: each has a rate of its own, so that some try much and others show what is known."""

from __future__ import annotations

import torch
from torch import Tensor


def epsilon_ladder(num_environments: int, base: float = 0.4, exponent: float = 7.0) -> Tensor:
    """Rates that fall from `base` to `base ** (1 + exponent)` (Ape-X, arXiv 1803.00933, section 4.1; R2D2, table 2).

        epsilon_i = base ** (1 + exponent * i / (N - 1))

    Args:
        num_environments: N; a single one gets `base`.
        base: of the most exploring environment.
        exponent: how far the last one is from it.

    Returns:
        float32 `[N]`.
    """
    if num_environments < 1 or not 0 <= base <= 1:
        raise ValueError(f"expected an environment and a base between 0 and 1, got {num_environments} and {base}")
    share = torch.arange(num_environments, dtype=torch.float64) / max(1, num_environments - 1)
    return (base ** (1.0 + exponent * share)).float()


def epsilon_greedy(q_values: Tensor, epsilon: Tensor, generator: torch.Generator) -> Tensor:
    """The best action of each row, or any with probability epsilon.

    Args:
        q_values: `[N, A]`.
        epsilon: `[N]`.
        generator: draws twice, whatever comes of it.

    Returns:
        int64 `[N]`.
    """
    count, num_actions = q_values.shape
    explores = torch.rand(count, generator=generator, device=q_values.device) < epsilon
    anything = torch.randint(num_actions, (count,), generator=generator, device=q_values.device)
    return torch.where(explores, anything, q_values.argmax(-1))
