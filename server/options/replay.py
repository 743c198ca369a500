"""Options of the algorithms that learn from a replay; part of `config.py`, which has all the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seedbed.common.errors import UsageError
from seedbed.common.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class QLearningConfig:
    """Q-learning: r2d2, apex; the others read the period of the target network alone"""

    n_step: int = option(5, "n, steps of a return before it bootstraps", minimum=1)
    target_period_updates: int = option(2500, "updates between two copies to the target network", minimum=1)
    rescale_values: bool = option(True, "learn h(return) instead of the return: a square root for large ones")
    head_size: int = option(512, "width of the hidden layer of value and advantage", minimum=1)
    epsilon_base: float = option(0.4, "epsilon of the environment that explores most: base ** (1 + exponent * i/(N-1))")
    epsilon_exponent: float = option(7.0, "how much less the last environment explores", minimum=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class R2D2Config:
    """R2D2"""

    burn_in: int = option(40, "rows of a sequence that only refresh the agent state", minimum=0)
    period: int = option(40, "rows between the starts of consecutive sequences of an environment", minimum=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """replay: r2d2, apex"""

    replay_capacity: int = option(2000, "unrolls it holds; the oldest makes room", minimum=1)
    replay_min_size: int = option(200, "unrolls it must hold before learning starts", minimum=1)
    samples_per_insert: float = option(1.5, "how often an unroll is drawn on average; inserts and draws wait for that")
    replay_tolerance: float | None = option(
        None,
        "how far draws may be ahead or behind, in unrolls "
        "(default: 2 * (batch size + samples per insert), or num-envs * samples per insert if that is more)",
    )
    priority_exponent: float = option(0.9, "alpha: 0 draws uniformly, 1 in proportion to priorities", minimum=0)
    importance_exponent: float = option(0.6, "beta: 1 corrects in full for what is drawn too often", minimum=0)
    priority_eta: float = option(0.9, "share of the largest error in an unroll's priority; the rest is their mean")
    replay_device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "where it lives: auto is beside the learner if it fits"
    )
    checkpoint_replay: bool = option(False, "save the replay when the run is stopped in order, and resume with it")

    def __post_init__(self) -> None:
        if self.replay_min_size > self.replay_capacity:
            raise UsageError(
                f"expected --replay-min-size of at most --replay-capacity ({self.replay_capacity}), "
                f"got {self.replay_min_size}: learning would never start"
            )
        if not 0 <= self.priority_eta <= 1:
            raise UsageError(f"expected --priority-eta between 0 and 1, got {self.priority_eta}")
