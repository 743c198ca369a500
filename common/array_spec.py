"""Specs of single arrays: dtype, shape, bounds, and what their numbers stand for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import SpecError

DTYPES = ("uint8", "int32", "int64", "float32")
"""What travels. `ArraySpec.source_dtype` says what the environment's own space has."""

TRAVELS_AS = {
    "bool": "uint8",
    "uint8": "uint8",
    "int8": "int32",
    "int16": "int32",
    "uint16": "int32",
    "int32": "int32",
    "int64": "int64",
    "float16": "float32",
    "float32": "float32",
    "float64": "float32",
}
"""dtype of an environment's space -> what travels. Only float64 loses digits, which no network would have used."""

Kind = Literal["box", "discrete", "binary"]
Role = Literal["value", "action_mask"]

MAX_BOUNDS = 1024
"""Most elements of an array that may have bounds of their own."""

MASK_NAME = "action_mask"
"""Of an action mask that is no part of the environment's own observation."""

_MAX_INTEGER = 2**53
"""So far doubles, which bounds are, count one by one."""

_MAX_RANK = 32  # NumPy's, before its version 2
_MAX_SHOWN = 8  # elements whose bounds a person reads one by one
_MAX_FLOAT32 = float(np.finfo(np.float32).max)

_LITTLE_ENDIAN = {name: np.dtype(name).newbyteorder("<") for name in DTYPES}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """One array of one row.

    Attributes:
        name: "observation" or "action" where the space is one array. Each step into a Dict or Tuple space leaves its
            mark, "/key" or "[0]": "/camera", "[1]", "/arm[2]".
        dtype: of the array as it travels, one of `DTYPES`.
        shape: of one row, without the row dimension.
        low, high: the environment's own inclusive bounds, one for all elements or one for each in C order; infinite
            where there are none. Of an action they say what the values, which travel normalised, stand for.
        kind: "box": numbers; an action travels as float32 in [-1, 1]. "discrete": each element is one of
            `high - low + 1` integers; an action travels from 0. "binary": each element is 0 or 1.
        role: "value"; "action_mask" for a binary observation that says which discrete actions are allowed.
        source_dtype: of the environment's own space; `dtype` unless given.
        median: of the pixels of an image, when it was looked at; None: nobody has. No part of the contract: specs that
            differ in it alone are equal.

    Raises:
        SpecError: one of them is impossible. Nothing here costs more than the bounds are long, whatever the shape says:
            specs come from strangers.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    low: tuple[float, ...] = (-math.inf,)
    high: tuple[float, ...] = (math.inf,)
    kind: Kind = "box"
    role: Role = "value"
    source_dtype: str = ""
    median: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        self._require(self.dtype in DTYPES, f"a dtype out of {', '.join(DTYPES)}", repr(self.dtype))
        sizes = all(isinstance(size, int) and size >= 1 for size in self.shape)
        self._require(sizes, "dimensions of at least 1", f"shape {self.shape}")
        self._require(len(self.shape) <= _MAX_RANK, f"at most {_MAX_RANK} dimensions", str(len(self.shape)))
        for word, known in ((self.kind, get_args(Kind)), (self.role, get_args(Role))):
            self._require(word in known, f"one of {', '.join(known)}", repr(word))
        for side, bounds in (("low", self.low), ("high", self.high)):
            lengths = f"1 or {self.num_elements} numbers as {side}"
            self._require(len(bounds) in (1, self.num_elements), lengths, str(len(bounds)))
            self._require(not any(map(math.isnan, bounds)), f"numbers as {side}", "NaN")
            one = len(set(bounds)) == 1  # equal bounds have one form, so that specs compare as they are
            self._require(one or len(bounds) <= MAX_BOUNDS, f"at most {MAX_BOUNDS} numbers as {side}", str(len(bounds)))
            object.__setattr__(self, side, tuple(map(float, bounds[:1] if one else bounds)))
        object.__setattr__(self, "source_dtype", self.source_dtype or self.dtype)
        sources = f"a source dtype out of {', '.join(TRAVELS_AS)}"
        self._require(self.source_dtype in TRAVELS_AS, sources, repr(self.source_dtype))
        ordered = all(low <= high and low < math.inf and high > -math.inf for low, high in self.bound_pairs)
        self._require(ordered, "low <= high", str(self))
        self._require(self.median is None or math.isfinite(self.median), "a finite median", str(self.median))
        if self.kind != "box":
            self._check_integers()

    def _check_integers(self) -> None:
        integers = self.dtype != "float32" and all(bound.is_integer() for bound in (*self.low, *self.high))
        self._require(integers, f"integers with finite bounds where values are {self.kind}", str(self))
        limits = np.iinfo(self.dtype)
        least, most = max(limits.min, -_MAX_INTEGER), min(limits.max, _MAX_INTEGER)
        self._require(least <= min(self.low) and max(self.high) <= most, f"bounds from {least} to {most}", str(self))
        if self.kind == "binary":
            bits = (self.dtype, self.low, self.high) == ("uint8", (0.0,), (1.0,))
            self._require(bits, "uint8 with bounds 0 and 1 where values are binary", str(self))

    def _require(self, right: bool, expected: str, got: str) -> None:
        if not right:
            raise SpecError(f"array {self.name!r}: expected {expected}, got {got}")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype, little-endian as on the wire."""
        return _LITTLE_ENDIAN[self.dtype]

    @property
    def num_elements(self) -> int:
        """How many numbers one row holds."""
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.num_elements * self.numpy_dtype.itemsize

    @property
    def lower(self) -> NDArray[np.float64]:
        """The lower bounds, `[*shape]`."""
        return _bounds(self.low, self.shape)

    @property
    def upper(self) -> NDArray[np.float64]:
        """The upper bounds, `[*shape]`."""
        return _bounds(self.high, self.shape)

    @property
    def bounded(self) -> bool:
        """Whether every element has two finite bounds."""
        return all(map(math.isfinite, (*self.low, *self.high)))

    @property
    def num_values(self) -> tuple[int, ...]:
        """How many values each element takes, in C order; empty for a box."""
        if self.kind == "box":
            return ()
        sizes = tuple(int(high - low) + 1 for low, high in self.bound_pairs)
        return sizes * self.num_elements if len(sizes) == 1 else sizes

    @property
    def num_mask_entries(self) -> int:
        """The sum of `num_values`."""
        if self.kind == "box":
            return 0
        sizes = [int(high - low) + 1 for low, high in self.bound_pairs]
        return sizes[0] * self.num_elements if len(sizes) == 1 else sum(sizes)

    @property
    def bound_pairs(self) -> list[tuple[float, float]]:
        """Low and high of each element, or one pair for all of them."""
        longer = max(len(self.low), len(self.high))
        low, high = (bounds * (longer if len(bounds) == 1 else 1) for bounds in (self.low, self.high))
        return list(zip(low, high, strict=True))

    @property
    def sent_low(self) -> float:
        """Least value of an action as it travels: boxes in [-1, 1], everything else from 0."""
        return -1.0 if self.kind == "box" else 0.0

    @property
    def sent_high(self) -> NDArray[np.float64]:
        """Greatest value of an action as it travels, `[*shape]`."""
        return np.ones(self.shape) if self.kind == "box" else self.upper - self.lower

    def difference(self, other: ArraySpec) -> str:
        """What differs from another spec, as `ours here, theirs there`."""
        texts = str(self), str(other)
        if texts[0] == texts[1]:  # bounds whose least and greatest look alike
            pairs = list(self.bound_pairs), list(other.bound_pairs)
            if len(pairs[0]) == len(pairs[1]):
                element = next((i for i, pair in enumerate(pairs[0]) if pair != pairs[1][i]), 0)
                texts = f"{self}, element {element} in {list(pairs[0][element])}", f"{list(pairs[1][element])}"
        return f"{texts[0]} here, {texts[1]} there"

    def __str__(self) -> str:
        unbounded = self.low == (-math.inf,) and self.high == (math.inf,)
        bounds = "" if unbounded else f" in {_shown(self.bound_pairs)}"
        kind = "" if self.kind == "box" else f"{self.kind} "
        mask = " as action mask" if self.role == "action_mask" else ""
        source = "" if self.source_dtype in ("", self.dtype) else f" (of {self.source_dtype})"
        return f"{kind}{self.dtype}{list(self.shape)}{bounds}{source}{mask}"

    def to_json(self) -> dict[str, Any]:
        """The JSON form; null stands for an infinite bound."""
        fields: dict[str, Any] = {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "low": [_to_null(bound) for bound in self.low],
            "high": [_to_null(bound) for bound in self.high],
            "kind": self.kind,
            "role": self.role,
            "source_dtype": self.source_dtype,
        }
        return fields | ({} if self.median is None else {"median": self.median})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ArraySpec:
        """The inverse of `to_json`. Raises KeyError, TypeError, ValueError or SpecError."""
        return cls(
            **{
                **data,
                "shape": tuple(data["shape"]),
                "low": tuple(-math.inf if bound is None else float(bound) for bound in data["low"]),
                "high": tuple(math.inf if bound is None else float(bound) for bound in data["high"]),
            }
        )


def discrete(name: str, num_values: int, *, start: int = 0, dtype: str = "int64") -> ArraySpec:
    """A scalar out of `num_values` integers from `start` on."""
    return ArraySpec(name=name, dtype=dtype, low=(start,), high=(start + num_values - 1,), kind="discrete")


def action_mask(actions: Sequence[ArraySpec], name: str = MASK_NAME, *, source_dtype: str = "") -> ArraySpec:
    """The mask for these actions: uint8 `[M]`, an entry for each value of each discrete element, in their order."""
    entries = sum(spec.num_mask_entries for spec in actions)
    return ArraySpec(
        name=name,
        dtype="uint8",
        shape=(entries,),
        low=(0,),
        high=(1,),
        kind="binary",
        role="action_mask",
        source_dtype=source_dtype,
    )


def _bounds(values: Sequence[float], shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.array(np.broadcast_to(values[0], shape) if len(values) == 1 else np.reshape(values, shape), np.float64)


def _to_null(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


def _shown(pairs: Sequence[tuple[float, float]]) -> str:
    """The bounds of all elements where they are equal; else of each, or of very many the range of all."""
    if len(pairs) <= _MAX_SHOWN:
        return ", ".join(f"[{_number(low)}, {_number(high)}]" for low, high in pairs)
    least, most = min(low for low, _ in pairs), max(high for _, high in pairs)
    return f"bounds of their own within [{_number(least)}, {_number(most)}]"


def _number(bound: float) -> str:
    """As people write it; the greatest float32 stands for no bound, as Gymnasium's own environments use it."""
    if abs(bound) >= _MAX_FLOAT32:
        return "inf" if bound > 0 else "-inf"
    return str(int(bound)) if bound.is_integer() and abs(bound) <= _MAX_INTEGER else f"{bound:g}"
