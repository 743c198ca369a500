"""Gymnasium spaces -> specs: what of a space travels; `common.containers` has the way back.

Space objects are told apart by the names of their classes: nothing here imports Gymnasium.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import SpecError
from seedbed.common.specs import MASK_NAME, MAX_BOUNDS, TRAVELS_AS, ArraySpec, action_mask, discrete

Root = Literal["observation", "action"]

SUPPORTED = "supported are Box, Discrete, MultiDiscrete, MultiBinary, and Tuple and Dict of them"

_MAX_TEXT = 200


def action_specs(space: Any) -> tuple[ArraySpec, ...]:
    """What travels for an action space, in the space's own order.

    Raises:
        SpecError: a space that is not supported, or bounds that nothing can be mapped to.
    """
    return tuple(_array_spec("action", name or "action", part) for name, part in _parts("action", space))


def observation_specs(space: Any, actions: Sequence[ArraySpec]) -> tuple[ArraySpec, ...]:
    """What travels for an observation space, in the space's own order.

    Args:
        space: where it is a Dict with the key "action_mask", and actions are discrete, that entry is their mask.
        actions: specs of the actions.

    Raises:
        SpecError: a space that is not supported, or a mask of another length.
    """
    masked = any(spec.num_mask_entries for spec in actions) and _kind(space) == "Dict"
    specs = []
    for name, part in _parts("observation", space, whole=(f"/{MASK_NAME}",) if masked else ()):
        if masked and name == f"/{MASK_NAME}":
            specs.append(_mask_spec(name, part, actions))
        else:
            specs.append(_array_spec("observation", name or "observation", part))
    return tuple(specs)


def _kind(space: Any) -> str:
    """The name of the first supported class that a space is of, or inherits."""
    known = ("Box", "Discrete", "MultiDiscrete", "MultiBinary", "Tuple", "Dict")
    return next((cls.__name__ for cls in type(space).__mro__ if cls.__name__ in known), type(space).__name__)


def _parts(root: Root, space: Any, name: str = "", whole: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
    """(name, space) of everything that is no container; names in `whole` are not entered."""
    kind = _kind(space)
    if name in whole or kind not in ("Tuple", "Dict"):
        yield name, space
        return
    if not len(space.spaces):
        raise _refusal(root, name, space, "an empty Dict or Tuple leaves nothing that it could be rebuilt from")
    if kind == "Tuple":
        for index, part in enumerate(space.spaces):
            yield from _parts(root, part, f"{name}[{index}]", whole)
        return
    for key, part in space.spaces.items():
        if not isinstance(key, str) or "/" in key or "[" in key:
            raise _refusal(root, name, space, f'keys must be texts without "/" and "[", got {key!r}')
        yield from _parts(root, part, f"{name}/{key}", whole)


def _array_spec(root: Root, name: str, space: Any) -> ArraySpec:
    match _kind(space):
        case "Discrete":
            spec = discrete(name, int(space.n), start=int(space.start))
        case "MultiDiscrete":
            start = np.asarray(getattr(space, "start", 0), np.int64) + np.zeros_like(space.nvec, np.int64)
            low, high = _bounds(root, name, space, start, start + np.asarray(space.nvec, np.int64) - 1)
            spec = ArraySpec(
                name=name, dtype="int64", shape=tuple(map(int, space.shape)), low=low, high=high, kind="discrete"
            )
        case "MultiBinary":
            shape = tuple(map(int, space.shape))
            spec = ArraySpec(name=name, dtype="uint8", shape=shape, low=(0,), high=(1,), kind="binary")
        case "Box" if space.dtype.name in TRAVELS_AS:
            spec = _box_spec(root, name, space)
        case "Box":
            raise _refusal(root, name, space, f"supported dtypes are {', '.join(TRAVELS_AS)}")
        case _:
            raise _refusal(root, name, space, SUPPORTED)
    source = space.dtype.name
    if source not in TRAVELS_AS:
        raise _refusal(root, name, space, f"supported dtypes are {', '.join(TRAVELS_AS)}")
    return replace(spec, source_dtype=source)


def _box_spec(root: Root, name: str, space: Any) -> ArraySpec:
    low, high = _bounds(root, name, space, space.low, space.high)
    if root == "action":
        if space.dtype.kind != "f":
            raise _refusal(root, name, space, "a Box of integers is no action here: make it a MultiDiscrete")
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise _refusal(root, name, space, "actions from -1 to 1 are mapped to its bounds, which must be finite")
        if (space.low >= space.high).any():
            raise _refusal(root, name, space, "actions from -1 to 1 are mapped to its bounds, which must differ")
    dtype, shape = TRAVELS_AS[space.dtype.name], tuple(map(int, space.shape))
    return ArraySpec(name=name, dtype=dtype, shape=shape, low=low, high=high)


def _bounds(
    root: Root, name: str, space: Any, low: NDArray[Any], high: NDArray[Any]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """One bound for each element; of too many that differ the least and the greatest alone."""
    if low.size <= MAX_BOUNDS:
        return tuple(low.flatten().tolist()), tuple(high.flatten().tolist())
    if root == "action" and ((low != low.flat[0]).any() or (high != high.flat[0]).any()):
        raise _refusal(root, name, space, f"more than {MAX_BOUNDS} elements of an action must have equal bounds")
    return (float(low.min()),), (float(high.max()),)


def _mask_spec(name: str, space: Any, actions: Sequence[ArraySpec]) -> ArraySpec:
    arrays = [part for _, part in _parts("observation", space, name)]
    if any(_kind(part) not in ("Box", "MultiBinary") for part in arrays):
        raise _refusal("observation", name, space, "an action mask is a MultiBinary or a Box of 0 and 1")
    spec, size = action_mask(actions, name), sum(int(np.prod(part.shape)) for part in arrays)
    if (size,) != spec.shape:
        values = f"{spec.shape[0]}, one for each value of each discrete action"
        raise _refusal("observation", name, space, f"expected an action mask with as many entries as {values}")
    return spec


def _refusal(root: Root, name: str, space: Any, why: str) -> SpecError:
    text = str(space)
    shown = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
    at = "" if name in ("", root) else f" {name!r}"
    return SpecError(f"{root} space{at} {shown}: {why}")
