"""What tests agree on about rows of echo environments, beside their arithmetic. No torch here."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from seedbed.common.specs import ArraySpec, EnvironmentSpec

Rows = NDArray[Any]


def samples_of(specs: Sequence[ArraySpec], sent: Sequence[Rows]) -> list[Rows]:
    """The samples behind sent actions: those of boxes are larger, as a Gaussian's are before they are clipped."""
    return [3 * array if spec.kind == "box" else array for spec, array in zip(specs, sent, strict=True)]


def pair(spec: EnvironmentSpec, arrays: Sequence[Rows]) -> list[tuple[ArraySpec, Rows]]:
    """Each observation array with its spec, whether the mask is among the arrays or not."""
    specs = spec.observations if len(arrays) == len(spec.observations) else spec.shown
    return list(zip(specs, arrays, strict=True))


def checksums(spec: EnvironmentSpec, observations: Sequence[Rows]) -> list[int]:
    """One for each row `[L]`, of all its observation arrays `[L, ...]` but the first and the mask, which is a field."""
    arrays = [array for part, array in pair(spec, observations) if part.role == "value"][1:]
    return [zlib.crc32(b"".join(array[row].tobytes() for array in arrays)) for row in range(len(observations[0]))]
