"""TrXL-I and GTrXL (arXiv 1910.06764) row by row: a list of the rows of the episode, of which the last M are looked at.

Float64, one environment, no ring, no mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def sigmoid(x: Vector) -> Vector:
    return np.asarray(1 / (1 + np.exp(-x)))


def relu(x: Vector) -> Vector:
    return np.maximum(x, 0)


def layer_norm(x: Vector) -> Vector:
    return np.asarray((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5))


def encoding(distance: int, size: int) -> Vector:
    waves = [10_000 ** (-2 * k / size) for k in range(size // 2)]
    return np.array([*(math.sin(distance * wave) for wave in waves), *(math.cos(distance * wave) for wave in waves)])


def gate(x: Vector, y: Vector, weights: Mapping[str, Vector], bias: Any) -> Vector:
    """Matrices W_r, W_z, W_g of y and U_r, U_z, U_g of x; a column vector is multiplied from the left."""
    reset = sigmoid(weights["wr"] @ y + weights["ur"] @ x)
    update = sigmoid(weights["wz"] @ y + weights["uz"] @ x - bias)
    candidate = np.tanh(weights["wg"] @ y + weights["ug"] @ (reset * x))
    return np.asarray((1 - update) * x + update * candidate)


def attention(
    row: Vector, earlier: Sequence[Vector], weights: Mapping[str, Vector], heads: int, u: Vector, v: Vector
) -> Vector:
    """A row that looks at itself and at earlier ones, the newest last; `u` and `v` are `[heads, d]`."""
    looked_at = [*earlier, row]
    d = len(weights["q"]) // heads
    found = []
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        query = weights["q"][part] @ row
        scores = []
        for index, other in enumerate(looked_at):
            place = weights["r"][part] @ encoding(len(looked_at) - 1 - index, len(row))
            scores.append(((query + u[head]) @ weights["k"][part] @ other + (query + v[head]) @ place) / math.sqrt(d))
        share = np.exp(np.array(scores) - max(scores))
        share /= share.sum()
        found.append(sum(s * (weights["v"][part] @ other) for s, other in zip(share, looked_at, strict=True)))
    return np.asarray(weights["o"] @ np.concatenate(found))


def transformer(
    rows: Vector, first: Sequence[bool], layers: Sequence[Mapping[str, Any]], *, heads: int, length: int, gated: bool
) -> Vector:
    """Embedded rows `[T, D]` to outputs `[T, D]`; a layer's weights by name, see `layer_of`."""
    episodes: list[list[Vector]] = [[] for _ in layers]
    outputs = []
    for row, begins in zip(rows, first, strict=True):
        if begins:
            episodes = [[] for _ in layers]
        x = row
        for memory, layer in zip(episodes, layers, strict=True):
            earlier = [layer_norm(old) for old in memory[-length:]]
            memory.append(x)
            y = relu(attention(layer_norm(x), earlier, layer["attention"], heads, layer["u"], layer["v"]))
            x = joined(layer, "gate_1", gated)(x, y)
            hidden = relu(layer["f1"] @ layer_norm(x) + layer["b1"])
            x = joined(layer, "gate_2", gated)(x, relu(layer["f2"] @ hidden + layer["b2"]))
        outputs.append(x)
    return np.stack(outputs)


def joined(layer: Mapping[str, Any], name: str, gated: bool) -> Callable[[Vector, Vector], Vector]:
    if not gated:
        return lambda x, y: x + y
    return lambda x, y: gate(x, y, layer[name], layer[name]["bias"])
