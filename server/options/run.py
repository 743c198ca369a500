"""Options of a run: local clients, device, stop conditions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seedbed.common.errors import UsageError
from seedbed.common.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """local environment clients"""

    num_envs: int = option(64, "environments in all local clients together", minimum=1)
    num_clients: int | None = option(None, "local client processes (default: one per core)", minimum=1)
    num_greedy_envs: int = option(
        0,
        "of these, the last so many only show the score: they explore nothing and nothing is learnt from them "
        "(0: all environments count)",
        minimum=0,
    )

    def __post_init__(self) -> None:
        if self.num_greedy_envs >= self.num_envs:
            raise UsageError(
                f"expected --num-greedy-envs below --num-envs ({self.num_envs}), got {self.num_greedy_envs}"
            )

    @property
    def greedy_environments(self) -> range:
        """Indices of the environments that only show the score."""
        return range(self.num_envs - self.num_greedy_envs, self.num_envs)

    def shows_score(self, environment_index: int) -> bool:
        """Whether its episodes count."""
        return not self.num_greedy_envs or environment_index in self.greedy_environments


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """run"""

    run_dir: Path | None = option(
        None, "where the run lives (default: runs/PRESET-or-ENV, with the algorithm if it was named)"
    )
    resume: Literal["auto", "never"] = option("auto", "auto continues a run found in --run-dir; never refuses one")
    device: Literal["auto", "cpu", "cuda"] = option("auto", "of inference and learning")
    train: bool = option(True, "learn; without it the server only answers, and drops what it sees")
    torch_threads: int = option(1, "threads of each torch operation on a CPU")
    max_steps: int = option(20_000_000, "stop after so many agent steps; the learning rate decays over them")
    max_seconds: float | None = option(None, "stop after so long")
    target_return: float | None = option(None, "stop when mean and median return of the last 100 episodes reach this")
    checkpoint_interval_s: float = option(300.0, "time between checkpoints")
    log_interval_s: float = option(10.0, "time between log lines")
