"""Selection before use, reductions, and shapes that do not fit."""

from __future__ import annotations

import math

import pytest
import torch

from seedbed.server.losses.masking import check_shapes, masked_reduce, only_valid, weight_of

VALID = torch.tensor([[True, False], [True, True]])
NONE = torch.zeros(2, 2, dtype=torch.bool)


def test_only_valid_elements_are_kept() -> None:
    assert only_valid(torch.tensor([[1, -7], [3, 4]]), VALID).tolist() == [[1, 0], [3, 4]]
    x = torch.full((2, 2, 3), math.nan).requires_grad_()
    kept = only_valid(x, VALID)
    assert kept.isnan().all(-1).tolist() == VALID.tolist()
    kept.sum().backward()
    assert x.grad is not None
    assert x.grad.all(-1).tolist() == VALID.tolist()


def test_masked_reduce() -> None:
    x = torch.tensor([[1.0, math.nan], [3.0, 8.0]])
    assert masked_reduce(x, VALID, "sum") == 12.0
    assert masked_reduce(x, VALID, "mean") == 4.0
    assert masked_reduce(x, NONE, "mean") == 0.0
    with pytest.raises(ValueError, match="expected reduction 'sum' or 'mean', got 'max'"):
        masked_reduce(x, VALID, "max")  # type: ignore[arg-type]


def test_a_weight_is_what_the_loss_was_divided_by() -> None:
    assert weight_of(VALID, "mean") == 3
    assert weight_of(VALID, "sum") == 1
    assert weight_of(NONE, "mean") == 0


def test_shapes_that_do_not_fit_are_explained() -> None:
    x, row = torch.zeros(2, 3), torch.zeros(3, 3)
    check_shapes({"values": row}, rewards=x, valid=x.bool())
    with pytest.raises(ValueError, match=r"expected discounts of shape \[2, 3\] beside rewards \[2, 3\], got \[3\]"):
        check_shapes(rewards=x, discounts=x[0])
    with pytest.raises(ValueError, match=r"expected values of shape \[3, 3\] beside rewards \[2, 3\], got \[2, 3\]"):
        check_shapes({"values": x}, rewards=x)
    with pytest.raises(ValueError, match=r"expected rewards of shape \[T, B\] with T of at least 1, got \[3\]"):
        check_shapes({"values": row}, rewards=x[0])
    with pytest.raises(ValueError, match=r"expected valid of dtype torch.bool, got torch.float32"):
        check_shapes(rewards=x, valid=x)
