"""Place of this process among the replicas of a run: one device each, a server of its own, and one learner of all.

    --learners N      N processes of this machine, started by `verbs/learners.py`, which meet through a file
    torchrun          any number on any hosts; it sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT

RANK decides seeds, environment indices and who writes the run; LOCAL_RANK only port and device.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedbed.common.errors import UsageError
from seedbed.common.options import override
from seedbed.server.options.config import ServerConfig
from seedbed.server.shared.indices import INDEX_STRIDE, indices_of

STORE_VARIABLE = "SEEDBED_STORE"
"""File through which the replicas that `--learners` starts find one another."""

_SEED_STRIDE = 1_000_003
_FOLDER = "replicas"


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process stands.

    Attributes:
        rank, world: among all replicas.
        local_rank, local_world: among those of this machine.
        store: file that all of them reach; None: that of torchrun.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    store: Path | None = None

    @property
    def is_alone(self) -> bool:
        """There is no other replica."""
        return self.world == 1

    @property
    def learners(self) -> int:
        """That were started together on this machine; 1 where torchrun has started them."""
        return 1 if self.store is None else self.world

    @property
    def indices(self) -> range | None:
        """Of this replica's environments; None: any."""
        return None if self.is_alone else indices_of(self.rank)

    @property
    def first_index(self) -> int:
        """The lowest of them."""
        return self.rank * INDEX_STRIDE

    def check_network(self, *, insecure: bool) -> None:
        """Refuses to share gradients beyond this machine unless that is meant.

        Raises:
            UsageError: it is not.
        """
        if self.world != self.local_world and not insecure:
            raise UsageError(
                f"expected all {self.world} learners on this machine, got {self.local_world} of them, or "
                "--insecure-cluster-network: what learners of several hosts send one another is neither encrypted nor "
                "authenticated"
            )

    def folder_of(self, run_dir: Path) -> Path:
        """Where this replica writes: the first one into the run, the others below it."""
        return run_dir if self.rank == 0 else run_dir / _FOLDER / str(self.rank)

    def run_of(self, folder: Path) -> Path:
        """The run that a replica with this folder writes a part of."""
        return folder if self.rank == 0 else folder.parents[1]

    def seeded(self, config: ServerConfig, agent_steps: int) -> ServerConfig:
        """With a seed of its own for what acts and learns; environments have theirs by their indices.

        Args:
            config: of the run.
            agent_steps: so far. Only the first replica has the state of its generator in checkpoints.
        """
        if self.rank == 0:
            return config
        seed = config.environment.seed + self.rank * _SEED_STRIDE + agent_steps
        return override(config, {"environment.seed": seed})

    @property
    def num_clients(self) -> int:
        """Local client processes of this replica: its share of the cores."""
        return max(1, (os.cpu_count() or 1) // self.local_world)

    def own(self, config: ServerConfig, run_dir: Path) -> ServerConfig:
        """The options of a run as this replica has them."""
        if self.rank == 0:
            return config
        serving, monitoring = config.serving, config.monitoring
        changes: dict[str, Any] = {
            "run.run_dir": self.folder_of(run_dir),
            "serving.port": serving.port and serving.port + self.local_rank,
            "monitoring.http_port": monitoring.http_port and monitoring.http_port + self.local_rank,
            # One dashboard and one record for all; a new run's weights come from the first replica.
            "monitoring.dashboard_port": "off",
            "monitoring.track": None,
            "run.init_from": None,
        }
        return override(config, changes)


def place_of(environment: Mapping[str, str]) -> Place:
    """Of the process with these environment variables; alone unless they say otherwise.

    Raises:
        UsageError: they make no sense.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return Place()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        local_rank = int(environment.get("LOCAL_RANK", rank))
        local_world = int(environment.get("LOCAL_WORLD_SIZE", world))
    except ValueError:
        found = ", ".join(f"{name}={environment[name]}" for name in names if name in environment)
        raise UsageError(f"expected numbers in the environment variables of torchrun, got {found}") from None
    if not (0 <= rank < world and 0 <= local_rank < local_world <= world):
        raise UsageError(
            f"expected RANK below WORLD_SIZE and LOCAL_RANK below LOCAL_WORLD_SIZE, got {rank} of {world} and "
            f"{local_rank} of {local_world}"
        )
    store = environment.get(STORE_VARIABLE)
    return Place(rank, world, local_rank, local_world, None if store is None else Path(store))
