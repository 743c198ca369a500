"""Containers of Dict and Tuple spaces around arrays, and actions in an environment's own units, from a spec alone.

Names carry the containers: each step into a Dict leaves "/key", each into a Tuple "[i]", so that far from the space the
same dictionaries and tuples can be built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec
from seedbed.common.timestep import Array

Path = tuple[str | int, ...]
"""Keys of dictionaries and positions in tuples, from the outside in."""

_STEP = re.compile(r"/([^/\[]*)|\[(\d+)\]")


def path_of(name: str) -> Path:
    """The steps that lead to an array; none for one that is the whole value.

    Raises:
        SpecError: no space gives such a name.
    """
    if not name.startswith(("/", "[")):
        return ()
    steps = [match for match in _STEP.finditer(name)]
    if "".join(match[0] for match in steps) != name:
        raise SpecError(f'expected a name of marks like "/key" and "[0]", got {name!r}')
    return tuple(int(match[2]) if match[1] is None else match[1] for match in steps)


def follow(path: Path, value: Any) -> Any:
    """The part of a value to which these steps lead."""
    for step in path:
        value = value[step]
    return value


class Containers:
    """The Dict and Tuple spaces around arrays, read from the names of these.

    Args:
        names: of a spec's observations or actions, in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._paths = [path_of(name) for name in names]
        self._build = _builder(list(enumerate(self._paths)))

    def parts(self, value: Any) -> list[Any]:
        """What a value holds for each array, in their order."""
        return [follow(path, value) for path in self._paths]

    def build(self, parts: Sequence[Any]) -> Any:
        """The value that holds these parts: the inverse of `parts`."""
        return self._build(parts)


class ActionMapping:
    """Actions as they travel -> what the environment's own space contains: its dtypes, its bounds, its containers.

    Args:
        specs: of the actions.
    """

    def __init__(self, specs: Sequence[ArraySpec]) -> None:
        self._containers = Containers([spec.name for spec in specs])
        self._restorers = [_restorer(spec) for spec in specs]
        self._of_many = [_restorer_of_many(spec) for spec in specs]

    def __call__(self, sent: Sequence[Array]) -> Any:
        """The action; shares no memory with what was sent."""
        return self._containers.build([restore(part) for restore, part in zip(self._restorers, sent, strict=True)])

    def of_many(self, sent: Sequence[Array]) -> Any:
        """Actions of N environments, `[N, ...]` each, as a vector of them takes them."""
        return self._containers.build([restore(part) for restore, part in zip(self._of_many, sent, strict=True)])


def _builder(places: Sequence[tuple[int, Path]]) -> Callable[[Sequence[Any]], Any]:
    """What puts parts into containers.

    Args:
        places: position among the parts, and the steps that lead there.

    Raises:
        SpecError: no container has all of these places.
    """
    if any(not path for _, path in places):
        if len(places) != 1:
            raise SpecError(f"expected marks like /key or [0] in the names of {len(places)} arrays, got a name without")
        position = places[0][0]
        return lambda parts: parts[position]
    groups: dict[str | int, list[tuple[int, Path]]] = {}
    for position, path in places:
        groups.setdefault(path[0], []).append((position, path[1:]))
    built = {step: _builder(group) for step, group in groups.items()}
    if all(isinstance(step, str) for step in built):
        return lambda parts: {step: build(parts) for step, build in built.items()}
    if list(built) != list(range(len(built))):
        raise SpecError(f"expected the steps of one container, a Dict or a Tuple from 0 on, got {list(built)}")
    return lambda parts: tuple(build(parts) for build in built.values())


def _restorer_of_many(spec: ArraySpec) -> Callable[[Any], Any]:
    """The same for `[N, *shape]`."""
    if spec.kind == "discrete" and spec.shape == ():
        dtype, first = np.dtype(spec.source_dtype), int(spec.lower)
        return lambda sent: (sent + first).astype(dtype)
    return _restorer(spec)


def _restorer(spec: ArraySpec) -> Callable[[Any], Any]:
    """What makes of a sent array what the space contains."""
    dtype = np.dtype(spec.source_dtype)
    if spec.kind == "binary":
        return lambda sent: np.array(sent, dtype)
    if spec.kind == "discrete":
        start = spec.lower.astype(np.int64)
        if spec.shape == ():
            first = int(start)
            return lambda sent: dtype.type(int(sent) + first)
        return lambda sent: (sent + start).astype(dtype)
    low, high = spec.lower, spec.upper
    least, most = low.astype(dtype), high.astype(dtype)

    def scale(sent: Any) -> Any:
        share = (np.asarray(sent, np.float64) + 1) / 2
        # Not low + share * (high - low), which is not quite high at the end, and infinite where the bounds are huge.
        return np.asarray(np.clip((low * (1 - share) + high * share).astype(dtype), least, most), dtype)

    return scale
