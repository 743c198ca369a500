"""Nested states <-> flat tensors and JSON, which is what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def flatten_state(prefix: str, state: Any) -> tuple[dict[str, Tensor], Any]:
    """Takes a nested state, such as an optimiser's `state_dict()`, apart into tensors and JSON.

    Args:
        prefix: begins the name of every tensor, unless empty.
        state: dictionaries, lists, tuples, tensors, numbers, texts and None in any nesting.

    Returns:
        Tensors by flat name, shared with `state`; and what `unflatten_state` needs beside them.

    Raises:
        TypeError: it holds anything else.
        ValueError: two tensors would have the same name.
    """
    tensors: dict[str, Tensor] = {}

    def join(name: str, part: Any) -> str:
        return f"{name}.{part}" if name else str(part)

    def convert(name: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            if name in tensors:
                raise ValueError(f"expected different names, two tensors are called {name!r}")
            tensors[name] = value
            return {"tensor": name}
        if isinstance(value, Mapping):
            # As pairs: JSON would turn the integers by which optimisers number parameters into texts.
            return {"dict": [[_plain(name, key), convert(join(name, key), item)] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [convert(join(name, index), item) for index, item in enumerate(value)]}
        return _plain(name, value)

    return tensors, convert(prefix, state)


def unflatten_state(tensors: Mapping[str, Tensor], structure: Any) -> Any:
    """The inverse of `flatten_state`; `tensors` may hold others too."""
    if not isinstance(structure, dict):
        return structure
    ((kind, content),) = structure.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unflatten_state(tensors, item) for key, item in content}
    items = [unflatten_state(tensors, item) for item in content]
    return tuple(items) if kind == "tuple" else items


def _plain(name: str, value: Any) -> Any:
    if value is not None and type(value) not in (bool, int, float, str):
        raise TypeError(f"{name}: expected tensors and what JSON can hold, got {type(value).__name__}")
    return value
