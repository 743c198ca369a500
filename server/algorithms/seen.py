"""A train batch as the parameters of an actor-critic see it, what its losses pull towards, how far off policy it is.

Shapes: T transitions, B unrolls; T + 1 rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from seedbed.server.losses.importance import effective_sample_share
from seedbed.server.losses.masking import masked_reduce, masked_variance
from seedbed.server.networks.distributions import ActionDistribution


class Targets(NamedTuple):
    """What a loss pulls towards; no gradient flows through either.

    Attributes:
        values: `[T, B]`.
        advantages: `[T, B]`, with whatever importance weights they need.
        spreads: of the values, `[T, B]` or a single number; None: they are not scaled.
        normal: mean and deviation of advantages in units of spreads, over several learners; None: nobody else's count.
    """

    values: Tensor
    advantages: Tensor
    spreads: Tensor | None = None
    normal: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A train batch as the parameters being learnt see it; policies are those of zero where it is not valid.

    Attributes:
        policy, behaviour: the learnt and the acting one, `[T, B]`.
        actions: the samples, `[T, B, ...]` for each array.
        log_probs: log pi(a), `[T, B]`.
        log_ratios: log pi(a) - log mu(a), `[T, B]`; the gradient flows.
        rewards: clipped, or those of a bound on their variance, `[T, B]`.
        discounts: gamma times the environment's, `[T, B]`.
        values: of every row, `[T+1, B]`.
        valid: bool `[T, B]`.
        weights: of the loss of each transition, `[T, B]`; None: 1.
    """

    policy: ActionDistribution
    behaviour: ActionDistribution
    actions: tuple[Tensor, ...]
    log_probs: Tensor
    log_ratios: Tensor
    rewards: Tensor
    discounts: Tensor
    values: Tensor
    valid: Tensor
    weights: Tensor | None = None


@torch.no_grad()
def diagnostics(seen: Seen) -> Mapping[str, Tensor]:
    """How far the acting policy was from the learnt one, over valid transitions."""
    valid, log_rhos = seen.valid, seen.log_ratios.detach()
    absolute = torch.where(valid, log_rhos.abs(), 0.0)
    watched = {"entropy": seen.policy.entropy(), **seen.policy.watched(seen.actions)}
    return {
        **{name: masked_reduce(of_rows, valid, "mean") for name, of_rows in watched.items()},
        "kl_behaviour": masked_reduce(seen.behaviour.kl(seen.policy), valid, "mean"),
        "abs_log_rho_mean": masked_reduce(absolute, valid, "mean"),
        "abs_log_rho_max": absolute.max(),
        "log_rho_variance": masked_variance(log_rhos, valid),
        "effective_sample_share": effective_sample_share(log_rhos, valid),
        "rho_clipped_share": masked_reduce((log_rhos > 0).float(), valid, "mean"),
    }
