"""The clipped surrogate objective of proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

Shapes: T transitions, B unrolls, time-major.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seedbed.server.losses.masking import Reduction, check_shapes, masked_reduce


def clipped_surrogate_loss(
    *, log_ratios: Tensor, advantages: Tensor, valid: Tensor, clip_ratio: float, reduction: Reduction
) -> Tensor:
    """-min(r_t A_t, clip(r_t, 1 - epsilon, 1 + epsilon) A_t), reduced, with r_t = pi(a_t) / mu(a_t) (equation 7).

    Args:
        log_ratios: log pi(a_t) - log mu(a_t), `[T, B]`, finite on invalid steps too. One number for all parts of an
            action: clipping each part's ratio would be another objective.
        advantages: `[T, B]`; no gradient flows through them.
        valid: bool `[T, B]`; other steps change neither loss nor gradient.
        clip_ratio: epsilon, more than 0.
        reduction: "sum" or "mean" over valid steps.

    Raises:
        ValueError: shapes or clip ratio that do not fit.
    """
    if not clip_ratio > 0:
        raise ValueError(f"expected clip_ratio of more than 0, got {clip_ratio}")
    check_shapes(valid=valid, log_ratios=log_ratios, advantages=advantages)
    advantages = torch.where(valid, advantages.detach(), 0.0)
    ratios = log_ratios.exp()
    clipped = ratios.clamp(1.0 - clip_ratio, 1.0 + clip_ratio)
    return masked_reduce(-torch.minimum(ratios * advantages, clipped * advantages), valid, reduction)


@torch.no_grad()
def normalise(advantages: Tensor, valid: Tensor) -> Tensor:
    """Advantages of mean 0 and standard deviation 1 over valid steps, `[T, B]`; 0 on the others.

    Not in the paper, but in OpenAI's code and in all that were compared with it (Engstrom et al. 2020,
    arXiv 2005.12729). The small constant keeps equal advantages at 0.
    """
    if advantages.device.type != "cpu":  # choosing the valid ones would wait for the device to say how many they are
        count = valid.sum().clamp(min=1)
        mean = torch.where(valid, advantages, 0.0).sum() / count
        centred = torch.where(valid, advantages - mean, 0.0)
        return centred / ((centred.square().sum() / count).sqrt() + 1e-8)
    kept = advantages[valid]
    if not len(kept):
        return torch.zeros_like(advantages)
    return torch.where(valid, (advantages - kept.mean()) / (kept.std(correction=0) + 1e-8), 0.0)
