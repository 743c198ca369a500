"""What an environment looks like from outside: named, typed arrays, and an equality that explains itself.

An environment with a single Box and a single Discrete has one observation array and one action array; dictionaries
have several. Nothing here assumes one. JSON is the form in files and on command lines; `codec` holds the wire form.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seedbed.common.errors import SpecError

DTYPES = ("uint8", "int32", "int64", "float32")

_LITTLE_ENDIAN = {name: np.dtype(name).newbyteorder("<") for name in DTYPES}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """One array of one row.

    Attributes:
        name: "observation" or "action" where there is only one, dictionary keys otherwise.
        dtype: one of `DTYPES`.
        shape: of one row, without the row dimension.
        minimum, maximum: inclusive bounds of every element; None where unbounded.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise SpecError(f"array {self.name!r}: expected a dtype out of {', '.join(DTYPES)}, got {self.dtype!r}")
        if any(size < 1 for size in self.shape):
            raise SpecError(f"array {self.name!r}: expected dimensions of at least 1, got shape {self.shape}")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype, little-endian as on the wire."""
        return _LITTLE_ENDIAN[self.dtype]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * self.numpy_dtype.itemsize

    @property
    def num_values(self) -> int | None:
        """How many values a discrete scalar takes, or None if this is not one (integers from 0 to a maximum)."""
        if self.shape == () and self.dtype.startswith("int") and self.minimum == 0 and self.maximum is not None:
            return int(self.maximum) + 1
        return None

    def __str__(self) -> str:
        bounds = "" if self.minimum is None and self.maximum is None else f" in [{self.minimum}, {self.maximum}]"
        return f"{self.dtype}{list(self.shape)}{bounds}"


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
        if not self.observations or not self.actions:
            raise SpecError(f"{self.environment}: expected at least one observation and one action array")
        if self.frames_per_step < 1:
            raise SpecError(f"{self.environment}: expected frames_per_step of at least 1, got {self.frames_per_step}")

    @property
    def num_actions(self) -> int:
        """A, for an environment with a single discrete action.

        Raises:
            SpecError: the action space is something else.
        """
        if len(self.actions) != 1 or self.actions[0].num_values is None:
            raise SpecError(f"{self.environment}: expected one discrete action, got {list(map(str, self.actions))}")
        return self.actions[0].num_values

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
            **{
                kind: [
                    {
                        "name": spec.name,
                        "dtype": spec.dtype,
                        "shape": list(spec.shape),
                        "minimum": spec.minimum,
                        "maximum": spec.maximum,
                    }
                    for spec in getattr(self, kind)
                ]
                for kind in ("observations", "actions")
            },
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
                fields[kind] = tuple(ArraySpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in fields[kind])
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"expected an environment spec in JSON, got {data!r:.200} ({error})") from error
