"""Figures of a run's replicas over a log interval: who brings how much, and who waits for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Reported(Protocol):
    """What a replica told of itself, since it started; see `learning.exchange.meeting.Report`."""

    @property
    def agent_steps(self) -> float:
        """Answered rows that were not LAST."""

    @property
    def live_rows(self) -> float:
        """Environments that are connected."""

    @property
    def batches(self) -> float:
        """Updates that it had a batch for."""

    @property
    def wait_s(self) -> float:
        """Time that it waited for the others, or for gradients on their way."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """How one did in the interval.

    Attributes:
        environments: that are connected.
        steps_per_s: agent steps.
        batch_share: of the updates, those that it had a batch for; None: there were none.
        wait_share: of the time, what it waited for the others.
    """

    environments: int
    steps_per_s: float
    batch_share: float | None
    wait_share: float

    def describe(self, rank: int) -> str:
        """For people."""
        share = "-" if self.batch_share is None else f"{self.batch_share:.0%}"
        return (
            f"learner {rank}  {self.environments:,} environments  {self.steps_per_s:,.0f} steps/s  "
            f"in {share} of the updates  waits {self.wait_share:.0%} of the time"
        )


class ReplicaFigures:
    """Turns what replicas told into rates."""

    def __init__(self) -> None:
        self._before: Sequence[Reported] = ()
        self._updates = 0

    def of(self, reports: Sequence[Reported], updates: int, elapsed_s: float) -> list[ReplicaStatus]:
        """Since the last call.

        Args:
            reports: by rank; none where there is one replica.
            updates: of the run so far.
            elapsed_s: since the last call.
        """
        before = self._before or reports  # at the first call nothing is known of what they did lately
        made = updates - self._updates if self._before else 0
        elapsed_s = max(1e-9, elapsed_s)
        found = [
            ReplicaStatus(
                environments=int(now.live_rows),
                steps_per_s=(now.agent_steps - then.agent_steps) / elapsed_s,
                batch_share=min(1.0, (now.batches - then.batches) / made) if made else None,
                wait_share=min(1.0, (now.wait_s - then.wait_s) / elapsed_s),
            )
            for now, then in zip(reports, before, strict=True)
        ]
        self._before, self._updates = reports, updates
        return found


def metrics_of(replicas: Sequence[ReplicaStatus]) -> Mapping[str, float | None]:
    """For `metrics.jsonl`; nothing where there is one."""
    if not replicas:
        return {}
    found: dict[str, float | None] = {
        "replicas": len(replicas),
        "live_rows_min": min(one.environments for one in replicas),
        "live_rows_max": max(one.environments for one in replicas),
    }
    for rank, one in enumerate(replicas):
        found |= {
            f"replica/{rank}/live_rows": one.environments,
            f"replica/{rank}/steps_per_s": one.steps_per_s,
            f"replica/{rank}/batch_share": one.batch_share,
            f"replica/{rank}/wait_share": one.wait_share,
        }
    return found
