"""Options of several learners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seedbed.common.errors import UsageError
from seedbed.common.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """several learners (--learners, torchrun)"""

    exchange: Literal["all_reduce", "gossip", "parameter_server"] = option(
        "all_reduce",
        "what learners share: all_reduce (one gradient, equal parameters), gossip (each learns by itself and is mixed "
        "with its neighbour: nobody waits for the slowest) or parameter_server (gradients are applied as they come)",
    )
    replica_patience_s: float = option(
        10.0, "how long the others wait for a train batch of a learner before they make their updates without it"
    )
    gossip_max_age: int | None = option(
        None,
        "gossip: updates without news of its neighbour after which a learner waits for some (default: never)",
        minimum=1,
    )
    replica_timeout_s: float = option(
        60.0,
        "how long a learner waits within an update for another before that one is taken for dead, at least: it is "
        "three times as long as any of them has ever been away",
        minimum=1,
    )
    insecure_cluster_network: bool = option(
        False, "let learners of several hosts share gradients over a network that nobody else may reach: unencrypted"
    )
    gradient_max_age: int = option(
        100, "parameter_server: updates by which parameters may have changed before a gradient is too old", minimum=0
    )
    gradient_outliers: float | None = option(
        4.0,
        "parameter_server: deviations above a learner's mean loss beyond which a gradient is not sent (none: all are)",
        minimum=0,
    )

    def __post_init__(self) -> None:
        if not self.replica_patience_s > 0:
            raise UsageError(f"expected --replica-patience-s above 0, got {self.replica_patience_s:g}")

    def check_world(self, world: int) -> None:
        """Refuses an exchange that one learner has nobody for; all_reduce of one is what it would do anyway.

        Args:
            world: learners of the run.

        Raises:
            UsageError: it has nobody.
        """
        if world == 1 and self.exchange != "all_reduce":
            raise UsageError(
                f"expected several learners with --exchange {self.exchange}, got one: say --learners N or start it by "
                "torchrun; with --exchange all_reduce a single learner goes on by itself"
            )
