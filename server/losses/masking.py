"""Validity: what every loss does with transitions that must not count, and the check that arrays fit together.

Masking afterwards is not enough: the gradient of a selected-away NaN is 0 * NaN. So inputs are replaced before they are
used (`only_valid`), and an invalid step changes neither loss nor gradient, whatever it holds.

Shapes: T transitions, B unrolls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["sum", "mean"]


def only_valid(x: Tensor, valid: Tensor) -> Tensor:
    """`x` `[T, B, ...]` with 0 wherever `valid` `[T, B]` does not hold."""
    return torch.where(valid.reshape(*valid.shape, *[1] * (x.dim() - valid.dim())), x, 0)


def rows_where(chosen: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Rows of `x` `[N, ...]` where `chosen` `[N]` holds, of `y` elsewhere."""
    return torch.where(chosen.reshape(-1, *[1] * (x.dim() - 1)), x, y)


def masked_reduce(x: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """The sum or mean of `x` over the steps where `valid` (same shape) holds; 0 where none does.

    The gradient with respect to an invalid element of `x` is 0, but what computed it must itself be free of NaN.

    Raises:
        ValueError: shapes that do not fit, or another reduction.
    """
    check_shapes(x=x, valid=valid)
    total = torch.where(valid, x, 0.0).sum()
    if reduction == "sum":
        return total
    if reduction == "mean":
        return total / valid.sum().clamp(min=1)
    raise ValueError(f"expected reduction 'sum' or 'mean', got {reduction!r}")


def masked_variance(x: Tensor, valid: Tensor) -> Tensor:
    """The variance of `x` over the steps where `valid` (same shape) holds; 0 where none does."""
    return masked_reduce((x - masked_reduce(x, valid, "mean")).square(), valid, "mean")


def weight_of(valid: Tensor, reduction: Reduction) -> Tensor:
    """By what `masked_reduce` has divided, but 0 where nothing is valid; 1 for a sum."""
    return valid.sum() if reduction == "mean" else torch.ones((), device=valid.device)


def check_shapes(rows: Mapping[str, Tensor] | None = None, **arrays: Tensor) -> None:
    """Broadcasting would hide a [B] among [T, B]: demands the exact shapes.

    Args:
        rows: arrays of `[T+1, B]`, one row more than `arrays`.
        **arrays: all of the shape of the first. One named "valid" is bool `[T, B]`, T at least 1.

    Raises:
        ValueError: a shape, or the dtype of `valid`, is another.
    """
    name, first = next(iter(arrays.items()))
    if rows is None and all(array.shape == first.shape for array in arrays.values()) and _is_mask(arrays.get("valid")):
        return  # what follows takes longer than a small loss
    shape = list(first.shape)
    if rows and (len(shape) != 2 or shape[0] < 1):
        raise ValueError(f"expected {name} of shape [T, B] with T of at least 1, got {shape}")
    wanted = [(other, array, shape) for other, array in arrays.items()]
    wanted += [(other, array, [shape[0] + 1, *shape[1:]]) for other, array in (rows or {}).items()]
    for other, array, expected in wanted:
        if list(array.shape) != expected:
            raise ValueError(f"expected {other} of shape {expected} beside {name} {shape}, got {list(array.shape)}")
    if not _is_mask(arrays.get("valid")):
        raise ValueError(f"expected valid of dtype torch.bool, got {arrays['valid'].dtype}")


def _is_mask(valid: Tensor | None) -> bool:
    return valid is None or valid.dtype == torch.bool
