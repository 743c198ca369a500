"""Every option of a server, in one tree; a run's `config.json` is this, in JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from seedbed.common.environment_options import CareOptions, EnvironmentOptions
from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.server.options.learning import LearningConfig, OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.options.replicas import ReplicaConfig
from seedbed.server.options.run import FleetConfig, RunConfig
from seedbed.server.options.serving import MonitoringConfig, ServingConfig
from seedbed.server.options.tasks import TasksConfig


@dataclass(frozen=True, slots=True)
class NoOptions:
    """algorithm"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """All of it.

    Attributes:
        algorithm_options: those of the algorithm, of the class that it brings; see `algorithms.interface.Algorithm`.
    """

    algorithm: str = option(
        "",
        "built-in algorithm, a plug-in's, or MODULE:CLASS (default: the best that suits the environment)",
        metavar="NAME",
        fixed=True,
    )
    algorithm_options: Any = field(default_factory=NoOptions)
    environment: EnvironmentOptions = field(default_factory=lambda: EnvironmentOptions(env="ALE/Pong-v5"))
    tasks: TasksConfig = field(default_factory=TasksConfig)
    care: CareOptions = field(default_factory=CareOptions)
    fleet: FleetConfig = field(default_factory=FleetConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    monitoring: MonitoringConfig = field(default_factory=MonitoringConfig)
    replicas: ReplicaConfig = field(default_factory=ReplicaConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.queue_unrolls < self.learning.batch_size:
            raise UsageError(
                f"expected --queue-unrolls of at least --batch-size ({self.learning.batch_size}), got "
                f"{self.queue_unrolls}: a train batch could never be complete"
            )
        if self.num_slots < self.fleet.num_envs:
            raise UsageError(
                f"expected --num-slots of at least --num-envs ({self.fleet.num_envs}), got {self.num_slots}"
            )

        self._check_tasks()

    def _check_tasks(self) -> None:
        """Every task must have environments that are learnt from and, where only some show the score, one of those."""
        plan, fleet = self.tasks.plan, self.fleet
        if plan.num_tasks == 1:
            return
        for name, indices in zip(self.tasks.names, plan.indices(fleet.num_envs), strict=True):
            shown = [index for index in indices if index in fleet.greedy_environments]
            if len(indices) == len(shown):
                raise UsageError(
                    f"expected --num-envs with an environment for each of {plan.num_tasks} tasks, got {fleet.num_envs} "
                    f"and none for {name}"
                )
            if fleet.num_greedy and not shown:
                raise UsageError(
                    f"expected --num-greedy-envs with one for each of {plan.num_tasks} tasks, or 0, got "
                    f"{fleet.num_greedy} and none for {name}"
                )

    @property
    def num_slots(self) -> int:
        """S: room for every environment twice, so that a restarted client need not wait for its old lease."""
        return self.serving.num_slots or 2 * self.fleet.num_envs

    @property
    def queue_unrolls(self) -> int:
        """Capacity of the learner's queue."""
        return self.serving.queue_unrolls or 2 * self.learning.batch_size
