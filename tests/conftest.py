"""What all tests share. Must load before torch and numpy: they read the number of threads when they are imported."""

from __future__ import annotations

import os

# Small tensors: more threads only wait for one another, and for whatever else runs on this machine. Child processes
# inherit it.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
