"""Writes what inference shows to people who look, see `shared.insight`; all of it after the answers are out.

From a GPU numbers come by one copy that nothing waits for, and are written when the next batch is: one batch late.

Shapes: N rows of an inference batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.timestep import StepType
from seedbed.server.inference.leases import Lease, LeaseTable
from seedbed.server.shared.insight import MAX_NUMBERS, TRAIL_STEPS, Sight
from seedbed.server.shared.slots import SlotTable

FLEET_EVERY_S = 1.0

_MOST_LEASES = 4000  # of the fleet: what fits into its block


class _Batch(NamedTuple):
    """What is shown of a batch.

    Attributes:
        slots: `[N]`.
        leases: serials, `[N]`.
        first: bool `[N]`.
        reward: float32 `[N]`.
        version: of the parameters.
        numbers: float32 `[N, P + 1]`, those of the policy, then the value; None: the algorithm shows nothing.
    """

    slots: NDArray[np.int64]
    leases: NDArray[np.int64]
    first: NDArray[np.bool_]
    reward: NDArray[np.float32]
    version: int
    numbers: Tensor | None


class InsightWriter:
    """The inference thread's side."""

    def __init__(self, sight: Sight, slots: SlotTable) -> None:
        """Nobody looks yet.

        Args:
            sight: written here; says whether somebody looks.
            slots: of the server.
        """
        self._table, self._look = sight.table, sight.look
        self._slots = slots
        self._watched = False
        self._next_fleet_s = 0.0
        self._fleet_s = 0.0
        self._pending: _Batch | None = None
        self._pinned: Tensor | None = None
        self._think_s = np.zeros(slots.num_slots)
        self._thinks = np.zeros(slots.num_slots, np.int64)
        self._answered: dict[int, int] = {}  # serial of a lease -> its newest answered Steps when the fleet was written

    def begin(self, lease: Lease, slots: NDArray[np.int64]) -> None:
        """A new lease."""
        self._table.begin(slots, lease.serial, lease.environment_indices)

    def end(self, slots: NDArray[np.int64]) -> None:
        """It is over."""
        self._table.end(slots)

    def is_watched(self, now_s: float) -> bool:
        """Whether somebody looks: asked at every batch, before it is answered."""
        if not self._look.lasts(now_s):
            self._watched = False
            return False
        if not self._watched:
            self._watched = True
            self._pending = None
            self._table.forget(slice(None))
            self._next_fleet_s = self._fleet_s = now_s
            self._answered = {}
        return True

    def think(self, firsts: Sequence[int]) -> None:
        """Before leases, by their first slots, are answered: how long their clients took since the last answer."""
        index = np.asarray(firsts)
        known = index[self._slots.answered_seq[index] > 0]
        self._think_s[known] += self._slots.accepted_s[known] - self._slots.answered_s[known]
        self._thinks[known] += 1

    def show(
        self,
        slots: NDArray[np.int64],
        step_type: Tensor,
        reward: Tensor,
        version: int,
        shown: Mapping[str, Tensor] | None,
    ) -> None:
        """Writes a batch that was answered.

        Args:
            slots: `[N]`.
            step_type, reward: what was answered, `[N]`.
            version: of the parameters.
            shown: see `Decision.shown`.
        """
        first, leases = step_type == StepType.FIRST, self._table.lease[slots]
        numbers = None if shown is None else _numbers(shown)
        if first.device.type == "cpu":
            self._write(_Batch(slots, leases, first.numpy(), reward.numpy(), version, numbers))
            return
        if self._pending is not None:  # it has arrived: the actions of this batch have been waited for
            self._write(self._pending)
        reward, first, numbers = self._on_its_way(reward, first, numbers)
        self._pending = _Batch(slots, leases, first.numpy(), reward.numpy(), version, numbers)

    def _on_its_way(
        self, reward: Tensor, first: Tensor, numbers: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The same in memory of this machine, as soon as the copy has arrived, which nothing waits for."""
        columns = [reward.float().unsqueeze(1), first.float().unsqueeze(1), *([] if numbers is None else [numbers])]
        found = torch.cat(columns, 1)
        if self._pinned is None or self._pinned.shape[1] != found.shape[1]:
            self._pinned = torch.empty((self._slots.num_slots, found.shape[1]), pin_memory=True)
        host = self._pinned[: len(found)]
        host.copy_(found, non_blocking=True)
        return host[:, 0], host[:, 1], None if numbers is None else host[:, 2:]

    def _write(self, batch: _Batch) -> None:
        table, slots = self._table, batch.slots
        same = table.lease[slots] == batch.leases
        keep = slice(None) if same.all() else same  # a lease may have ended since
        slots, first, reward = slots[keep], batch.first[keep].astype(bool), batch.reward[keep]
        table.episode_return[slots] = np.where(first, 0, table.episode_return[slots] + reward)
        table.episode_step[slots] = np.where(first, 0, table.episode_step[slots] + 1)
        table.begun[slots] |= first
        table.version[slots] = batch.version
        value: NDArray[np.float32] = np.full(len(slots), np.nan, np.float32)
        if batch.numbers is not None:
            numbers = batch.numbers.numpy()[keep]
            width = numbers.shape[1] - 1
            table.policy[slots, :width] = numbers[:, :width]
            table.num_numbers[slots] = width
            value = numbers[:, width]
        table.value[slots] = value
        length = table.trail_length[slots]
        place = length % TRAIL_STEPS
        table.trail[slots, place, 0] = value
        table.trail[slots, place, 1] = reward
        table.trail_length[slots] = length + 1

    def write_fleet(self, table: LeaseTable, now_s: float) -> None:
        """Once a second while somebody looks: every lease as it is."""
        if now_s < self._next_fleet_s or not self.is_watched(now_s):
            return
        leases = table.all()
        elapsed_s, self._fleet_s = now_s - self._fleet_s, now_s
        self._next_fleet_s = now_s + FLEET_EVERY_S
        rows = [self._row(lease, elapsed_s) for lease in leases[:_MOST_LEASES]]
        self._answered = {lease.serial: int(self._slots.answered_seq[lease.first]) for lease in leases}
        self._think_s[:] = 0
        self._thinks[:] = 0
        while not self._table.write_fleet({"leases": rows}):
            rows = rows[: len(rows) // 2]

    def _row(self, lease: Lease, elapsed_s: float) -> dict[str, object]:
        first, before = lease.first, self._answered.get(lease.serial)
        seq = int(self._slots.answered_seq[first])
        thinks = int(self._thinks[first])
        return {
            "client": lease.key.client_id,
            "run": lease.key.run_id,
            "group": lease.key.group,
            "host": lease.host,
            "first": first,
            "rows": lease.num_rows,
            "lease": lease.serial,
            "state": "grace" if lease.stream is None else "live",
            "opened_s": lease.opened_s,
            "reconnects": lease.reconnects,
            "steps_per_s": None if before is None or elapsed_s <= 0 else (seq - before) * lease.num_rows / elapsed_s,
            "think_ms": self._think_s[first] / thinks * 1000 if thinks else None,
        }


def _numbers(shown: Mapping[str, Tensor]) -> Tensor:
    """`[N, P + 1]`, the policy's and then the value."""
    policy = shown["policy"][:, :MAX_NUMBERS].float()
    value = shown.get("value")
    column = policy.new_full((len(policy),), float("nan")) if value is None else value.float()
    return torch.cat((policy, column.reshape(-1, 1)), 1)
