"""Effective sample size: golden values of shifted Gaussians, and the ends of its range."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seedbed.server.losses.importance import effective_sample_share
from seedbed.server.losses.masking import masked_variance


def of(log_rhos: Tensor) -> float:
    return effective_sample_share(log_rhos, torch.ones_like(log_rhos, dtype=torch.bool)).item()


def test_equal_weights_leave_all_and_one_weight_leaves_one() -> None:
    assert of(torch.full((5, 4), 37.0)) == 1.0
    assert of(torch.tensor([[100.0], [0.0], [-100.0], [0.0]])) == pytest.approx(1 / 4)
    assert of(torch.tensor([[0.0], [math.log(3.0)]])) == pytest.approx(16 / 20)


@pytest.mark.parametrize(("dimensions", "delta", "share"), [(3, 0.3, 0.763), (6, 0.3, 0.583), (17, 0.3, 0.217)])
def test_golden_of_gaussians_whose_means_have_moved(dimensions: int, delta: float, share: float) -> None:
    """exp(-D delta^2); log rho is normal, of mean -k/2 and variance k = D delta^2."""
    k = dimensions * delta**2
    log_rhos = -k / 2 + math.sqrt(k) * torch.randn(500, 1000, generator=torch.Generator().manual_seed(0))
    assert of(log_rhos) == pytest.approx(share, abs=0.01)
    valid = torch.ones_like(log_rhos, dtype=torch.bool)
    assert masked_variance(log_rhos, valid).item() == pytest.approx(k, rel=0.01)


def test_invalid_steps_do_not_count() -> None:
    log_rhos = torch.tensor([[0.0, 300.0], [math.log(3.0), 9.0]])
    valid = torch.tensor([[True, False], [True, False]])
    assert effective_sample_share(log_rhos, valid).item() == pytest.approx(16 / 20)
    assert masked_variance(log_rhos, valid).item() == pytest.approx((math.log(3.0) / 2) ** 2)
    nothing = torch.zeros_like(valid)
    assert effective_sample_share(log_rhos, nothing).item() == 1.0
    assert masked_variance(log_rhos, nothing).item() == 0.0
