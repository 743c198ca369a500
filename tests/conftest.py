"""What all tests share. Must load before torch and numpy: they read the number of threads when they are imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

SYSTEM = Path(__file__).parent / "system"

# Small tensors: more threads only wait for one another, and for whatever else runs on this machine. Child processes
# inherit it.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, and tests of a GPU say where they need one instead of passing or failing.

    Files are given to one process each (`--dist loadfile`): a long one at the end would leave the others idle.
    """
    items.sort(key=lambda item: item.path.parent != SYSTEM)
    skip_without_gpu(items)


def skip_without_gpu(items: Sequence[pytest.Item]) -> None:
    """Marks the tests of a GPU where there is none."""
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
