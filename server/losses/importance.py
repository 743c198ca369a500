"""Importance weights: how many samples they leave of those that were drawn.

Shapes: T transitions, B unrolls.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seedbed.server.losses.masking import check_shapes


def effective_sample_share(log_rhos: Tensor, valid: Tensor) -> Tensor:
    """Effective sample size of the weights rho, as a share of the samples: (sum rho)^2 / (N sum rho^2), Kish 1965.

    1 where all weights are equal, 1 / N where one is all. Gaussians of D dimensions whose means have moved by delta
    deviations leave exp(-D delta^2).

    Args:
        log_rhos: log pi(a) - log mu(a), `[T, B]`.
        valid: bool `[T, B]`; where none is, the share is 1.
    """
    check_shapes(log_rhos=log_rhos, valid=valid)
    # The greatest weight is brought to 1, so that none overflows; where nothing is valid it does not matter.
    greatest = torch.where(valid, log_rhos, -torch.inf).max().clamp(min=-1e30)
    weights = torch.where(valid, (log_rhos - greatest).exp(), 0.0)
    share = weights.sum().square() / (valid.sum() * weights.square().sum())
    return torch.where(valid.any(), share, 1.0)
