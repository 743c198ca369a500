"""A server's shared memory without the server: what a dashboard reads, written by the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.common.timestep import StepType, Timesteps
from seedbed.server.dashboard.facts import DashboardFacts, RunFacts, Shows
from seedbed.server.inference.insight import InsightWriter
from seedbed.server.inference.leases import Lease, LeaseKey, LeaseTable, StreamId
from seedbed.server.shared.insight import InsightTable, Look, Sight
from seedbed.server.shared.slots import SlotTable
from seedbed.server.shared.vitals import Phase, VitalsTable

IMAGE = ArraySpec(name="observation", dtype="uint8", shape=(40, 36, 1), low=(0,), high=(255,))
ACTION = discrete("action", 3)
NUM_SLOTS = 12


def spec_of(*observations: ArraySpec, actions: Sequence[ArraySpec] = (ACTION,)) -> EnvironmentSpec:
    return EnvironmentSpec(environment="test/Scene-v0", observations=observations, actions=tuple(actions))


def task_of(index: int) -> int:
    """Indices 2 to 99 play the first task, all others the second."""
    return 0 if 2 <= index < 100 else 1


class Scene:
    """The memory, and one who writes it as frontends and inference do."""

    def __init__(
        self,
        folder: Path,
        spec: EnvironmentSpec | None = None,
        *,
        frames: bool = True,
        shows: Shows = "policy",
        num_slots: int = NUM_SLOTS,
    ) -> None:
        self.spec = spec or spec_of(IMAGE)
        self.slots = SlotTable(self.spec, num_slots)
        self.vitals = VitalsTable(1)
        self.vitals.device["phase"] = Phase.SERVING
        self.insight, self.look = InsightTable(num_slots), Look()
        self.leases = LeaseTable(num_slots=num_slots, grace_s=10.0)
        self.writer = InsightWriter(Sight(self.insight, self.look), self.slots)
        self.metrics = folder / "metrics.jsonl"
        self.facts = DashboardFacts(
            run=RunFacts(
                name="scene",
                version="0",
                algorithm="vtrace",
                shows=shows,
                tasks=("test/Scene-v0", "test/Other-v0"),
                task_of=task_of,
                greedy_environments=range(100, 200),
                agent_steps=1000,
                updates=10,
                wall_s=300.0,
                max_steps=10_000,
                max_seconds=None,
                target_return=None,
                metrics=self.metrics,
            ),
            slots=self.slots.read_only(),
            vitals=self.vitals.read_only(),
            insight=self.insight.read_only(),
            look=self.look,
            frames=frames,
        )
        self._seqs: dict[int, int] = {}

    def join(self, client: str, *indices: int, host: str = "192.0.2.7") -> Lease:
        """A client's lease is opened."""
        lease = self.leases.open(LeaseKey(client, 1, 0), indices, StreamId(0, len(self.leases)))
        lease.host, lease.opened_s = host, 1.0
        slots = np.arange(lease.first, lease.first + lease.num_rows)
        self.slots.clear(lease.first, lease.num_rows)
        self.writer.begin(lease, slots)
        return lease

    def send(
        self, lease: Lease, *observations: np.ndarray[Any, Any], step_type: int = StepType.MID, reward: float = 0.0
    ) -> None:
        """Its next Steps arrives."""
        seq = self._seqs[lease.serial] = self._seqs.get(lease.serial, 0) + 1
        count = lease.num_rows
        rows = Timesteps(
            observations=observations,
            step_type=np.full(count, step_type, np.uint8),
            reward=np.full(count, reward, np.float32),
            discount=np.ones(count, np.float32),
        )
        self.slots.accept(lease.first, count, seq, rows)

    def answer(self, lease: Lease, policy: Tensor, value: float, now_s: float) -> bool:
        """Inference answers it; returns whether somebody looks."""
        slots = np.arange(lease.first, lease.first + lease.num_rows)
        watched = self.writer.is_watched(now_s)
        if watched:
            self.writer.think([lease.first])
            shown = {"policy": policy.expand(len(slots), -1), "value": torch.full((len(slots),), value)}
            step_type = torch.from_numpy(self.slots.step_type[slots])
            self.writer.show(slots, step_type, torch.from_numpy(self.slots.reward[slots]), 7, shown)
        self.slots.answered_s[lease.first] = now_s
        self.slots.answered_seq[lease.first] = self.slots.accepted_seq[lease.first]
        self.writer.write_fleet(self.leases, now_s)
        return watched
