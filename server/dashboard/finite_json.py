"""JSON as browsers read it: NaN and infinities, which it has no words for, become null."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np


def to_json(data: Any) -> bytes:
    """The text; numbers of numpy and arrays are read too."""
    return json.dumps(finite(data), allow_nan=False, separators=(",", ":")).encode()


def finite(data: Any) -> Any:
    """The same data with None for what is no finite number, and floats rounded to the digits that float32 has."""
    if isinstance(data, float | np.floating):
        return float(f"{data:.7g}") if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    if isinstance(data, np.ndarray):
        return finite(data.tolist())
    return data.item() if isinstance(data, np.generic) else data
