"""Rows of the comparison: an environment, agent steps, and a return that counts as learnt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PeerAlgorithm = Literal["PPO", "SAC"]


@dataclass(frozen=True, slots=True)
class Row:
    """One environment.

    Attributes:
        name: of the row and of its folder.
        env: as `--env` takes it: an id that Gymnasium knows, or MODULE:FUNCTION.
        steps: agent steps of a training, on both sides.
        threshold: return that the mean of the last 100 training episodes has to reach.
        kwargs: of what makes the environment.
        peer: algorithm of Stable-Baselines3: SAC for Box actions, PPO for all others.
        atari: whether the peer sees images of a game, through its own wrapper.
        seeds: at most so many of those asked for.
    """

    name: str
    env: str
    steps: int
    threshold: float
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    peer: PeerAlgorithm = "PPO"
    atari: bool = False
    seeds: int | None = None

    @property
    def title(self) -> str:
        """For people: the id, and what is special about it."""
        factory = f" (`{self.env}`)" if ":" in self.env else ""
        name = "MiniGrid-Empty-8x8-v0" if factory else self.env
        special = ", ".join(f"{key}={json.dumps(value)}" for key, value in self.kwargs.items())
        return f"{name}{f' {special}' if special else ''}"


ROWS = (
    Row("cartpole", "CartPole-v1", 100_000, 475),
    Row("mountaincar", "MountainCar-v0", 200_000, -110),
    Row("frozenlake", "FrozenLake-v1", 100_000, 0.7),
    Row("frozenlake-still", "FrozenLake-v1", 100_000, 0.95, {"is_slippery": False}),
    Row("lunarlander", "LunarLander-v3", 500_000, 200),
    Row("minatar-breakout", "MinAtar/Breakout-v1", 1_000_000, 10),
    Row("minatar-spaceinvaders", "MinAtar/SpaceInvaders-v1", 1_000_000, 50),
    Row("minigrid", "tests.bench.anything.minigrid_image:make", 200_000, 0.9),
    Row("pendulum", "Pendulum-v1", 20_000, -200, peer="SAC"),
    Row("lunarlander-continuous", "LunarLander-v3", 500_000, 200, {"continuous": True}, peer="SAC"),
    Row("halfcheetah", "HalfCheetah-v5", 200_000, 4800, peer="SAC"),
    Row("hopper", "Hopper-v5", 200_000, 2000, peer="SAC"),
    Row("walker2d", "Walker2d-v5", 200_000, 2000, peer="SAC"),
    Row("pong", "ALE/Pong-v5", 1_000_000, 0, atari=True, seeds=1),
    Row("breakout", "ALE/Breakout-v5", 1_000_000, 30, atari=True, seeds=1),
)
"""Thresholds are Gymnasium's where it has one that can be reached in so many steps."""

ROW_BY_NAME = {row.name: row for row in ROWS}
