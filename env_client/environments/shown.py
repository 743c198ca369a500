"""What an environment really shows, against what its spaces say: looked at once, at the first reset and the first step.

Casting and broadcasting would hide every difference: pixels from 0 to 1 in a space of uint8 arrive as black images, and
a run learns from them to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seedbed.common.containers import Containers
from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec
from seedbed.common.timestep import LARGEST, is_usable

_TOLERANCE = 1e-3
"""Of a range: how far outside of its bounds a number may be, which rounding explains."""

_NUMBERS = "biuf"


def check_observation(value: Any, specs: Sequence[ArraySpec], containers: Containers, when: str) -> None:
    """Compares a whole observation with its space.

    Args:
        value: as the environment gave it.
        specs: of its arrays.
        containers: that hold them.
        when: for messages: "the first reset".

    Raises:
        SpecError: names expected and shown.
    """
    try:
        parts = containers.parts(value)
    except (KeyError, IndexError, TypeError) as error:
        names = ", ".join(repr(spec.name) for spec in specs)
        raise SpecError(
            f"{when}: expected an observation with {names}, got {type(value).__name__} {_cut(value)} "
            f"({type(error).__name__}: {error})"
        ) from None
    for spec, part in zip(specs, parts, strict=True):
        if spec.role == "value" and (complaint := _complaint(spec, part)) is not None:
            raise SpecError(f"{when} shows {spec.name!r}: expected {spec}, got {complaint}")


def wider_dtypes(value: Any, specs: Sequence[ArraySpec], containers: Containers) -> list[str]:
    """Remarks about arrays of a wider dtype than their space's: its author may not know what is really shown.

    Args:
        value: an observation that fits its space.
        specs, containers: as above.
    """
    return [
        f"{spec.name!r} is shown as {part.dtype.name}, its space says {spec.source_dtype}: it is rounded"
        for spec, part in zip(specs, containers.parts(value), strict=True)
        if isinstance(part, np.ndarray | np.generic)
        and part.dtype.kind == "f"
        and part.dtype.itemsize > np.dtype(spec.source_dtype).itemsize
    ]


def check_step(result: Any) -> None:
    """Checks that a step gave five values, and that reward and flags are single numbers.

    Raises:
        SpecError: says which is wrong.
    """
    values = "(observation, reward, terminated, truncated, info)"
    if not isinstance(result, tuple) or len(result) != 5:
        got = f"{len(result)} values" if isinstance(result, tuple) else f"{type(result).__name__} {_cut(result)}"
        old = ": the environment speaks the interface from before Gymnasium 0.26" if got == "4 values" else ""
        raise SpecError(f"the first step: expected five values {values}, got {got}{old}")
    _, reward, terminated, truncated, _ = result
    for name, number, kinds in (
        ("reward", reward, _NUMBERS),
        ("terminated", terminated, "biu"),
        ("truncated", truncated, "biu"),
    ):
        array = _as_array(number)
        if array is None or array.size != 1 or array.dtype.kind not in kinds:
            expected = "one number" if name == "reward" else "True or False"
            raise SpecError(
                f"the first step: expected {expected} as {name}, got {type(number).__name__} {_cut(number)}"
            )
    if not abs(float(np.asarray(reward).item())) <= LARGEST:
        raise SpecError(f"the first step: expected a finite reward of at most {LARGEST:g}, got {reward}")


def check_reset(result: Any) -> None:
    """Checks that a reset gave an observation and an info.

    Raises:
        SpecError: it did not.
    """
    if not isinstance(result, tuple) or len(result) != 2:
        raise SpecError(
            f"the first reset: expected two values (observation, info), got {type(result).__name__} {_cut(result)}"
        )


def write(part: Any, target: NDArray[Any], spec: ArraySpec) -> None:
    """Writes what a step shows where it travels.

    Raises:
        ValueError: its shape is another one.
        TypeError: its dtype is another kind.
    """
    if type(part) is np.ndarray and part.dtype == target.dtype and part.shape == target.shape:
        target[...] = part
        return
    shown = np.asarray(part)
    if shown.shape != target.shape:
        raise ValueError(f"{spec.name!r}: expected shape {target.shape}, got {shown.shape}")
    casting: Literal["same_kind", "unsafe"] = "same_kind"  # no floats as integers, nothing signed as unsigned
    if spec.kind == "binary" or (shown is not part and _fits(shown, target)):  # bits, and numbers without a dtype
        casting = "unsafe"
    np.copyto(target, shown, casting=casting)


def out_of_bounds(spec: ArraySpec, shown: NDArray[Any]) -> bool:
    """Whether numbers are outside of their bounds, floats by more than rounding explains."""
    low, high = spec.lower, spec.upper
    slack = _TOLERANCE * _span(low, high) if shown.dtype.kind == "f" else np.zeros(())
    return bool(((shown < low - slack) | (shown > high + slack)).any())


def _fits(shown: NDArray[Any], target: NDArray[Any]) -> bool:
    """Whether integers of some width are all within that of another array."""
    if shown.dtype.kind not in "biu" or target.dtype.kind not in "iu" or not shown.size:
        return False
    limits = np.iinfo(target.dtype)
    return bool(limits.min <= shown.min() and shown.max() <= limits.max)


def _complaint(spec: ArraySpec, part: Any) -> str | None:
    """What is wrong with an array; None if nothing is."""
    shown = _as_array(part)
    if shown is None or shown.dtype.kind not in _NUMBERS:
        return f"{type(part).__name__} {_cut(part)}"
    dtype_of_its_own = isinstance(part, np.ndarray | np.generic)
    seen = f"{shown.dtype.name if dtype_of_its_own else type(part).__name__}{list(shown.shape)}"
    if shown.shape != spec.shape:
        return seen
    if shown.size:
        least, most = float(shown.min()), float(shown.max())
        seen += f" from {least:g} to {most:g}" if shown.size > 1 else f" {least:g}"
    if not _same_kind(shown.dtype, spec, dtype_of_its_own):
        return seen
    if shown.dtype.kind == "f" and not is_usable(shown):
        return f"{seen}, which is not finite, or beyond {LARGEST:g}"
    return seen if out_of_bounds(spec, shown) else None


def _span(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """The range of each element; of one with a single finite bound the size of that, or 1."""
    with np.errstate(over="ignore"):
        both = high - low
    one = np.maximum(1.0, np.minimum(np.abs(low), np.abs(high)))
    return np.where(np.isfinite(both), both, one)


def _same_kind(dtype: np.dtype[Any], spec: ArraySpec, dtype_of_its_own: bool) -> bool:
    """Whether values of this dtype are what the space has, up to their width."""
    source = np.dtype(spec.source_dtype)
    if spec.kind != "box" or (not dtype_of_its_own and source.kind != "f"):
        return dtype.kind in "biu"  # Python's own numbers have no dtype: bounds tell enough
    if not dtype_of_its_own:
        return True
    return (dtype.kind == "f") == (source.kind == "f") and np.can_cast(dtype, source, "same_kind")


def _as_array(value: Any) -> NDArray[Any] | None:
    try:
        return np.asarray(value)
    except (ValueError, TypeError):  # lists of different lengths, and the like
        return None


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
