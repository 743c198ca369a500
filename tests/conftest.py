"""What all tests share. Must load before torch and numpy: they read the number of threads when they are imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec

import pytest

# Small tensors: more threads only wait for one another, and for whatever else runs on this machine. Child processes
# inherit it.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Tests of a GPU say that they need one where there is none, instead of passing or failing."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    if not _has_gpu():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_gpu() -> bool:
    """None without torch, which clients need not have."""
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
