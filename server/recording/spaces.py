"""Spaces of Gymnasium from a contract: what Minari wants to know of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from seedbed.common.containers import Containers
from seedbed.common.specs import ArraySpec


def observation_space(arrays: Sequence[ArraySpec]) -> spaces.Space[Any]:
    """Of observations as they travel: float64 is float32 there, small integers int32."""
    return _built(arrays, [_space_of(array, array.dtype) for array in arrays])


def action_space(arrays: Sequence[ArraySpec]) -> spaces.Space[Any]:
    """Of actions in the environment's own units."""
    return _built(arrays, [_space_of(array, array.source_dtype) for array in arrays])


def _built(arrays: Sequence[ArraySpec], parts: list[spaces.Space[Any]]) -> spaces.Space[Any]:
    return _wrapped(Containers([array.name for array in arrays]).build(parts))


def _wrapped(value: Any) -> spaces.Space[Any]:
    if isinstance(value, dict):
        return spaces.Dict({key: _wrapped(part) for key, part in value.items()})
    return spaces.Tuple(tuple(map(_wrapped, value))) if isinstance(value, tuple) else value


def _space_of(array: ArraySpec, dtype: str) -> spaces.Space[Any]:
    if array.kind == "binary":
        return spaces.MultiBinary(array.shape[0] if len(array.shape) == 1 else array.shape)
    if array.kind == "discrete":
        sizes = np.array(array.num_values, np.int64).reshape(array.shape)
        start = array.lower.astype(np.int64)
        if array.shape == ():
            return spaces.Discrete(int(sizes), start=int(start))
        return spaces.MultiDiscrete(sizes, dtype=np.dtype(dtype).type, start=start)
    kind: Any = np.dtype(dtype).type
    low, high = array.lower, array.upper
    if np.dtype(dtype).kind != "f" and not array.bounded:
        limits = np.iinfo(dtype)
        low, high = np.maximum(low, limits.min), np.minimum(high, limits.max)
    return spaces.Box(low.astype(kind), high.astype(kind), array.shape, kind)
