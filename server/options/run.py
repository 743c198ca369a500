"""Options of a run: local clients, device, stop conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seedbed.common.errors import UsageError
from seedbed.common.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """local environment clients"""

    num_envs: int = option(64, "environments in all local clients together", minimum=1, maximum=1 << 20)
    num_clients: int | None = option(None, "local client processes (default: one per core)", minimum=1)
    num_greedy_envs: int | None = option(
        0,
        "greedy environments, the last of num-envs: they only show the score, explore nothing, and nothing is learnt "
        "from them "
        "(0: all environments count; none: a quarter, as with algorithms that explore by a rate of their own)",
        minimum=0,
    )

    def __post_init__(self) -> None:
        if self.num_greedy >= self.num_envs:
            raise UsageError(
                f"expected --num-greedy-envs below --num-envs ({self.num_envs}), got {self.num_greedy_envs}"
            )

    @property
    def num_greedy(self) -> int:
        """Environments that only show the score. Of a few, 100 episodes in a row would never end within a run."""
        if self.num_greedy_envs is not None:
            return self.num_greedy_envs
        return min(self.num_envs - 1, max(1, self.num_envs // 4))

    @property
    def greedy_environments(self) -> range:
        """Indices of the environments that only show the score."""
        return range(self.num_envs - self.num_greedy, self.num_envs)

    def shows_score(self, environment_index: int) -> bool:
        """Whether its episodes count."""
        return not self.num_greedy or environment_index in self.greedy_environments


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """run"""

    run_dir: Path | None = option(
        None, "where the run lives (default: runs/PRESET-or-ENV, with the algorithm if it was named)"
    )
    resume: Literal["auto", "never"] = option("auto", "auto continues a run found in --run-dir; never refuses one")
    init_from: Path | None = option(
        None, "begin a new run with the weights of another: its directory, or one of its checkpoints", fixed=True
    )
    device: str = option("auto", "device of inference and learning: auto, cpu, cuda or one of several, cuda:1")
    train: bool = option(True, "learn; without it the server only answers, and drops what it sees")
    torch_threads: int | None = option(
        None, "threads of each torch operation on a CPU (default: 1; with a GPU 4, which gather its batches)", minimum=1
    )
    max_steps: int = option(20_000_000, "stop after so many agent steps; the learning rate decays over them", minimum=1)
    max_seconds: float | None = option(
        None, "stop after so long, all starts together, each from its first answered step on", above=0
    )
    target_return: float | None = option(
        None,
        "stop when mean and median return of a cohort reach this: the next 100 episodes or more, as many of each "
        "environment",
    )
    checkpoint_interval_s: float = option(300.0, "time between checkpoints; the first comes after 30 s", above=0)
    keep: int = option(3, "newest checkpoints that are kept, beside that of the best cohort", minimum=1)
    episode_records: bool = option(
        True, "write a line for each episode into episodes.jsonl, of which the newest 32 to 64 MB are kept"
    )
    record_share: float = option(
        0.0, "share of all episodes that are recorded as a Minari data set, whole ones alone", minimum=0
    )
    record_dataset: str | None = option(
        None, "its name (default: seedbed/NAME-OF-THE-RUN-v0); one that is there is added to", metavar="ID"
    )
    log_interval_s: float = option(10.0, "time between log lines", above=0)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise UsageError(f"expected --device auto, cpu, cuda or cuda:N, got {self.device!r}")
        if not 0 <= self.record_share <= 1:
            raise UsageError(f"expected --record-share between 0 and 1, got {self.record_share}")
