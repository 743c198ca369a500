"""Environment specs: named, typed arrays, and an equality that explains itself.

An environment with a single Box and a single Discrete has one observation array and one action array; Dict and Tuple
spaces have several. Nothing here assumes one. JSON is the form in files and on command lines; `codec` holds the wire
form.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import SpecError

DTYPES = ("uint8", "int32", "int64", "float32")
"""What travels. `ArraySpec.source_dtype` says what the environment's own space has."""

Kind = Literal["box", "discrete", "binary"]
Role = Literal["value", "action_mask"]

MAX_BOUNDS = 1024
"""Most elements of an array that may have bounds of their own."""

_LITTLE_ENDIAN = {name: np.dtype(name).newbyteorder("<") for name in DTYPES}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """One array of one row.

    Attributes:
        name: "observation" or "action" where there is only one. Each step into a Dict or Tuple space leaves its mark:
            "observation/key", "action[0]" without the first word: "/key", "[0]".
        dtype: of the array as it travels, one of `DTYPES`.
        shape: of one row, without the row dimension.
        low, high: the environment's own inclusive bounds, one for all elements or one for each in C order; infinite
            where there are none. Of an action they say what the values, which travel normalised, stand for.
        kind: "box": numbers; an action travels as float32 in [-1, 1]. "discrete": each element is one of
            `high - low + 1` integers; an action travels from 0. "binary": each element is 0 or 1.
        role: "value"; "action_mask" for an observation of 0 and 1 that says which discrete actions are allowed.
        source_dtype: of the environment's own space; `dtype` unless given.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    low: tuple[float, ...] = (-math.inf,)
    high: tuple[float, ...] = (math.inf,)
    kind: Kind = "box"
    role: Role = "value"
    source_dtype: str = ""

    def __post_init__(self) -> None:
        name = f"array {self.name!r}"
        if self.dtype not in DTYPES:
            raise SpecError(f"{name}: expected a dtype out of {', '.join(DTYPES)}, got {self.dtype!r}")
        if any(size < 1 for size in self.shape):
            raise SpecError(f"{name}: expected dimensions of at least 1, got shape {self.shape}")
        for word, known in ((self.kind, get_args(Kind)), (self.role, get_args(Role))):
            if word not in known:
                raise SpecError(f"{name}: expected one of {', '.join(known)}, got {word!r}")
        for side, bounds in (("low", self.low), ("high", self.high)):
            if len(bounds) not in (1, self.num_elements):
                raise SpecError(f"{name}: expected 1 or {self.num_elements} numbers as {side}, got {len(bounds)}")
            if any(math.isnan(bound) for bound in bounds):
                raise SpecError(f"{name}: expected numbers as {side}, got NaN")
            # Equal bounds have one form, so that specs compare as they are.
            object.__setattr__(self, side, tuple(map(float, bounds[:1] if len(set(bounds)) == 1 else bounds)))
        object.__setattr__(self, "source_dtype", self.source_dtype or self.dtype)
        if self.kind != "box" and not (self.dtype != "float32" and all(map(math.isfinite, (*self.low, *self.high)))):
            raise SpecError(f"{name}: expected integers with finite bounds where values are {self.kind}, got {self}")
        if self.kind == "binary" and (self.low, self.high) != ((0.0,), (1.0,)):
            raise SpecError(f"{name}: expected bounds 0 and 1 where values are binary, got {self}")
        if (self.lower > self.upper).any():
            raise SpecError(f"{name}: expected low <= high, got {self}")

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
        return tuple(int(size) for size in (self.upper - self.lower + 1).flatten())

    @property
    def sent_low(self) -> float:
        """Least value of an action as it travels: boxes in [-1, 1], everything else from 0."""
        return -1.0 if self.kind == "box" else 0.0

    @property
    def sent_high(self) -> NDArray[np.float64]:
        """Greatest value of an action as it travels, `[*shape]`."""
        return np.ones(self.shape) if self.kind == "box" else self.upper - self.lower

    def __str__(self) -> str:
        unbounded = self.low == (-math.inf,) and self.high == (math.inf,)
        bounds = "" if unbounded else f" in [{_shown(self.low)}, {_shown(self.high)}]"
        kind = "" if self.kind == "box" else f"{self.kind} "
        mask = " as action mask" if self.role == "action_mask" else ""
        source = "" if self.source_dtype in ("", self.dtype) else f" (of {self.source_dtype})"
        return f"{kind}{self.dtype}{list(self.shape)}{bounds}{source}{mask}"

    def to_json(self) -> dict[str, Any]:
        """The JSON form; null stands for an infinite bound."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "low": [_to_null(bound) for bound in self.low],
            "high": [_to_null(bound) for bound in self.high],
            "kind": self.kind,
            "role": self.role,
            "source_dtype": self.source_dtype,
        }

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """The contract between a client and a server; both sides compare it field by field.

    Attributes:
        environment: the id people know it by, e.g. "ALE/Pong-v5".
        preset: named preprocessing; "" where there is none.
        observations, actions: arrays in the order in which they travel.
        frames_per_step: emulator frames per agent step, for counting only.
    """

    environment: str
    observations: tuple[ArraySpec, ...]
    actions: tuple[ArraySpec, ...]
    preset: str = ""
    frames_per_step: int = 1

    def __post_init__(self) -> None:
        if not self.shown or not self.actions:
            raise SpecError(f"{self.environment}: expected at least one observation and one action array")
        if self.frames_per_step < 1:
            raise SpecError(f"{self.environment}: expected frames_per_step of at least 1, got {self.frames_per_step}")
        for kind in ("observations", "actions"):
            names = [spec.name for spec in getattr(self, kind)]
            if len(set(names)) != len(names):
                raise SpecError(f"{self.environment}: expected each of the {kind} once, got {names}")
        for spec in self.actions:
            if spec.kind == "box" and (spec.dtype != "float32" or not spec.bounded or (spec.lower == spec.upper).any()):
                raise SpecError(
                    f"{self.environment}: expected box actions to be float32 with finite bounds that differ, "
                    f"got {spec.name!r} {spec}"
                )
        self._check_mask()

    def _check_mask(self) -> None:
        masks = [spec for spec in self.observations if spec.role == "action_mask"]
        wanted = f"uint8[{self.num_mask_entries}]"
        if masks and (len(masks) > 1 or not self.num_mask_entries):
            raise SpecError(f"{self.environment}: expected at most one action mask, for discrete actions, got {masks}")
        if masks and (masks[0].dtype, masks[0].shape) != ("uint8", (self.num_mask_entries,)):
            raise SpecError(f"{self.environment}: expected an action mask {wanted}, got {masks[0]}")
        if any(spec.role == "action_mask" for spec in self.actions):
            raise SpecError(f"{self.environment}: expected an action mask among the observations, got an action")

    @property
    def shown(self) -> tuple[ArraySpec, ...]:
        """The observations that a network reads: all but the action mask, in their order."""
        return tuple(spec for spec in self.observations if spec.role == "value")

    @property
    def mask_position(self) -> int | None:
        """Where in `observations` the action mask stands; None without one."""
        return next((i for i, spec in enumerate(self.observations) if spec.role == "action_mask"), None)

    @property
    def num_mask_entries(self) -> int:
        """Entries of an action mask: one for each value of each discrete component, in order; none for boxes."""
        return sum(sum(spec.num_values) for spec in self.actions)

    @property
    def num_actions(self) -> int:
        """A, for an environment with a single discrete action.

        Raises:
            SpecError: the action space is something else.
        """
        if len(self.actions) != 1 or self.actions[0].kind != "discrete" or self.actions[0].shape != ():
            raise SpecError(f"{self.environment}: expected one discrete action, got {list(map(str, self.actions))}")
        return self.actions[0].num_values[0]

    def differences(self, other: EnvironmentSpec) -> list[str]:
        """Lists what differs, each as `field: ours here, theirs there`; empty when equal."""
        found = [
            f"{field}: {getattr(self, field)!r} here, {getattr(other, field)!r} there"
            for field in ("environment", "preset", "frames_per_step")
            if getattr(self, field) != getattr(other, field)
        ]
        for kind in ("observations", "actions"):
            ours = {spec.name: spec for spec in getattr(self, kind)}
            theirs = {spec.name: spec for spec in getattr(other, kind)}
            if list(ours) != list(theirs):
                found.append(f"{kind}: {list(ours)} here, {list(theirs)} there")
                continue
            found += [
                f"{kind}[{name!r}]: {ours[name]} here, {theirs[name]} there"
                for name in ours
                if ours[name] != theirs[name]
            ]
        return found

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as in `config.json`."""
        return {
            "environment": self.environment,
            "preset": self.preset,
            "frames_per_step": self.frames_per_step,
            "observations": [spec.to_json() for spec in self.observations],
            "actions": [spec.to_json() for spec in self.actions],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> EnvironmentSpec:
        """Reads `to_json`'s form.

        Raises:
            SpecError: a field is missing, unknown or of the wrong kind.
        """
        try:
            fields = dict(json.loads(data) if isinstance(data, str) else data)
            for kind in ("observations", "actions"):
                fields[kind] = tuple(map(ArraySpec.from_json, fields[kind]))
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"expected an environment spec in JSON, got {data!r:.200} ({error})") from error


def _bounds(values: Sequence[float], shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.array(np.broadcast_to(values[0], shape) if len(values) == 1 else np.reshape(values, shape), np.float64)


def _to_null(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


def _shown(bounds: Sequence[float]) -> str:
    """One number where all are equal; else the least and the greatest."""
    shown = [f"{bound:g}" if abs(bound) < 1e6 else repr(bound) for bound in (min(bounds), max(bounds))]
    return shown[0] if len(bounds) == 1 else f"{shown[0]} .. {shown[1]}"
