"""The value rescaling of R2D2 and its inverse (Pohlen et al. 2018, arXiv 1805.11593; R2D2, section 2.3).

    h(x)    = sign(x) (sqrt(|x| + 1) - 1) + eps x
    h^-1(x) = sign(x) (((sqrt(1 + 4 eps (|x| + 1 + eps)) - 1) / (2 eps))^2 - 1)

It squeezes returns of any size to a range that a network can learn, so that rewards need no clipping.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-3  # keeps the inverse Lipschitz continuous; R2D2, table 2


def rescale(x: Tensor, epsilon: float = EPSILON) -> Tensor:
    """h, elementwise: odd, increasing, a square root for large values."""
    return x.sign() * ((x.abs() + 1.0).sqrt() - 1.0) + epsilon * x


def unrescale(x: Tensor, epsilon: float = EPSILON) -> Tensor:
    """The inverse of `rescale`, in a form that keeps its digits.

    The textbook form subtracts two numbers that are nearly equal and divides by eps, which in float32 costs three
    digits at ordinary returns. With s = |x| + 1 + eps it is

        (sqrt(1 + 4 eps s) - 1) / (2 eps) = 2 s / (1 + sqrt(1 + 4 eps s))
    """
    shifted = x.abs() + (1.0 + epsilon)
    root = 2.0 * shifted / (1.0 + torch.sqrt(1.0 + 4.0 * epsilon * shifted))
    return x.sign() * (root.square() - 1.0)
