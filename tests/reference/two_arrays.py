"""A contract of two observation and two action arrays, and rows of it in which every number tells its place."""

from __future__ import annotations

import numpy as np

from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import EpisodeEnd, Timesteps

SPEC = EnvironmentSpec(
    environment="test/Two-v0",
    preset="modern",
    frames_per_step=4,
    observations=(
        ArraySpec(name="image", dtype="uint8", shape=(2, 3), low=(0,), high=(255,)),
        ArraySpec(name="speed", dtype="float32"),
    ),
    actions=(
        ArraySpec(name="button", dtype="int64", low=(0,), high=(4,), kind="discrete"),
        ArraySpec(name="stick", dtype="float32", shape=(2,), low=(-1.5,), high=(1,)),
    ),
)


def rows(num_rows: int = 3) -> Timesteps:
    """Every number tells its place."""
    return Timesteps(
        step_type=np.arange(num_rows, dtype=np.uint8) % 3,
        reward=np.arange(num_rows, dtype=np.float32) * 1.5,
        discount=np.linspace(1, 0, num_rows, dtype=np.float32),
        observations=(
            np.arange(num_rows * 6, dtype=np.uint8).reshape(num_rows, 2, 3),
            np.arange(num_rows, dtype=np.float32) * 100,
        ),
        episode_ends=(
            EpisodeEnd(row=2, episode_return=-21.25, steps=2**40, frames=7, info={"won": 1.0, "lap/time": -0.25}),
        ),
    )
