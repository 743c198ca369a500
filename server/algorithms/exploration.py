"""Exploration: rates of taking any action instead of the best, each environment's own or one that falls for all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seedbed.server.algorithms.acting import Acting
from seedbed.server.losses.q_learning import only_allowed

_GOLDEN_RATIO = 0.6180339887498949  # the fractions of its multiples fill [0, 1) evenly, however many there are


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


def annealed_epsilon(environment_indices: Tensor, agent_steps: int, over_steps: int) -> Tensor:
    """Rates that fall from 1, each environment's to a final one of its own (arXiv 1602.01783, section 5.1).

    Final rates are 0.1, 0.01 and 0.5 with probabilities 0.4, 0.3 and 0.3, as in the paper, but spread evenly over the
    environments instead of drawn: a draw could leave eight of them without a rate, or without all but one.

    Args:
        environment_indices: int64 `[N]`.
        agent_steps: of the run so far.
        over_steps: after which the final rates are reached; the paper's 4 million frames are 1 million agent steps.

    Returns:
        float32 `[N]`.
    """
    place = (environment_indices * _GOLDEN_RATIO) % 1.0
    final = torch.where(place < 0.4, 0.1, torch.where(place < 0.7, 0.01, 0.5))
    return 1.0 + (final - 1.0) * min(1.0, agent_steps / over_steps)


def falling_epsilon(environment_indices: Tensor, agent_steps: int, over_steps: float, final: float) -> Tensor:
    """One rate for all that falls from 1 in a line.

    Args:
        environment_indices: int64 `[N]`.
        agent_steps: of the run so far.
        over_steps: after which the final rate is reached; 0: at once.
        final: that rate.

    Returns:
        float32 `[N]`.
    """
    share = min(1.0, agent_steps / over_steps) if over_steps > 0 else 1.0
    rate = 1.0 + (final - 1.0) * share
    return torch.full(environment_indices.shape, rate, device=environment_indices.device)


def epsilon_greedy(q_values: Tensor, epsilon: Tensor, generator: torch.Generator, mask: Tensor | None = None) -> Tensor:
    """The best action of each row, or any with probability epsilon.

    Args:
        q_values: `[N, A]`.
        epsilon: `[N]`.
        generator: draws twice, whatever comes of it.
        mask: `[N, A]`, 0 for actions that are never taken, unless all are 0; None: all are allowed.

    Returns:
        int64 `[N]`.
    """
    count, num_actions = q_values.shape
    explores = torch.rand(count, generator=generator, device=q_values.device) < epsilon
    if mask is None:
        anything = torch.randint(num_actions, (count,), generator=generator, device=q_values.device)
        return torch.where(explores, anything, q_values.argmax(-1))
    values = only_allowed(q_values, mask)
    allowed = values > -torch.inf
    chances = torch.rand(count, num_actions, generator=generator, device=q_values.device)
    anything = torch.where(allowed, chances, -1.0).argmax(-1)  # the largest of equal chances: each as often
    return torch.where(explores, anything, values.argmax(-1))


def shown_of(q_values: Tensor, mask: Tensor | None, acting: Acting) -> Mapping[str, Tensor] | None:
    """`Decision.shown` of an algorithm that learns the value `[N, A]` of each action; -inf of what the mask forbids."""
    if not acting.watched:
        return None
    allowed = only_allowed(q_values, mask)
    return {"policy": allowed, "value": allowed.amax(-1)}
