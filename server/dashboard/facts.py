"""Facts about a server that its dashboard shows: what does not change while it runs, and the memory that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.shared.insight import InsightTable, Look
from seedbed.server.shared.slots import SlotTable
from seedbed.server.shared.vitals import VitalsTable

Shows = Literal["policy", "q_values"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known of a run when it starts.

    Attributes:
        name: of its directory.
        version: of seedbed.
        algorithm: its name.
        shows: what an algorithm's policy numbers are.
        tasks: names of what is learnt, by number.
        task_of: the number of an environment's task, by its index.
        greedy_environments: indices of environments that only show the score.
        agent_steps, updates, wall_s: of the run's earlier starts, which vitals do not count.
        max_steps, max_seconds, target_return: where it ends.
        metrics: its metrics.jsonl.
    """

    name: str
    version: str
    algorithm: str
    shows: Shows
    tasks: tuple[str, ...]
    task_of: Callable[[int], int]
    greedy_environments: range
    agent_steps: int
    updates: int
    wall_s: float
    max_steps: int
    max_seconds: float | None
    target_return: float | None
    metrics: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardFacts:
    """All that the dashboard's process gets; shared memory but `look` is mapped read-only.

    Attributes:
        run: what is known of it.
        slots: observations, actions, rewards.
        vitals: numbers of all processes.
        insight: what inference shows while somebody looks.
        look: says that somebody does.
        frames: whether observations are shown.
    """

    run: RunFacts
    slots: SlotTable
    vitals: VitalsTable
    insight: InsightTable
    look: Look
    frames: bool

    @property
    def spec(self) -> EnvironmentSpec:
        """Of the environment."""
        return self.slots.spec

    def for_reading(self) -> DashboardFacts:
        """The same, for a process that may write nothing but `look`."""
        return DashboardFacts(
            run=self.run,
            slots=self.slots.read_only(),
            vitals=self.vitals.read_only(),
            insight=self.insight.read_only(),
            look=self.look,
            frames=self.frames,
        )
