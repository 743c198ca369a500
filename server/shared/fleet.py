"""The fleet, as inference last wrote it down: a row for each client, and who holds a slot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from seedbed.server.shared.insight import InsightTable
from seedbed.server.shared.slots import SlotTable

STALLED_S = 10.0
"""A client that has shown nothing for so long, though its stream is open, is called stalled."""


class Fleet:
    """Reads the fleet; inference writes it once a second while somebody looks."""

    def __init__(self, insight: InsightTable, slots: SlotTable) -> None:
        """Nothing is known before somebody has looked."""
        self._insight = insight
        self._slots = slots
        self._leases: list[dict[str, Any]] = []
        self._number = 0

    def read(self) -> None:
        """Takes over what is there now; what is just being written is read next time."""
        number = self._insight.fleet_number
        if number != self._number and (fleet := self._insight.read_fleet()) is not None:
            self._number, self._leases = number, fleet["leases"]

    @property
    def holders(self) -> dict[int, dict[str, Any]]:
        """Serial of a lease -> its row; of leases that are still there."""
        present = set(self._insight.lease.tolist())
        return {lease["lease"]: lease for lease in self._leases if lease["lease"] in present}

    def state_of(self, lease: dict[str, Any], now_s: float) -> str:
        """ "grace", "stalled" or "live"."""
        if lease["state"] == "grace":
            return "grace"
        return "stalled" if self._silent_s(lease, now_s) > STALLED_S else "live"

    def rows(self) -> list[dict[str, Any]]:
        """One for each incarnation of a client, in the order of their slots."""
        now_s = time.monotonic()
        clients: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for lease in self.holders.values():
            clients.setdefault((lease["client"], lease["run"]), []).append(lease)
        return [self._row(leases, now_s) for leases in clients.values()]

    def _row(self, leases: Sequence[dict[str, Any]], now_s: float) -> dict[str, Any]:
        states = {self.state_of(lease, now_s) for lease in leases}
        thinks = [lease["think_ms"] for lease in leases if lease["think_ms"] is not None]
        rates = [lease["steps_per_s"] for lease in leases if lease["steps_per_s"] is not None]
        return {
            "client": leases[0]["client"],
            "host": leases[0]["host"],
            "groups": len(leases),
            "environments": sum(lease["rows"] for lease in leases),
            "state": next(state for state in ("grace", "stalled", "live") if state in states),
            "since_s": now_s - min(lease["opened_s"] for lease in leases),
            "steps_per_s": sum(rates) if rates else None,
            "think_ms": sum(thinks) / len(thinks) if thinks else None,
            "rtt_ms": None,
            "reconnects": sum(lease["reconnects"] for lease in leases),
            "last_seen_s": min(self._silent_s(lease, now_s) for lease in leases),
        }

    def _silent_s(self, lease: dict[str, Any], now_s: float) -> float:
        """Since its newest Steps came, or since it was opened."""
        seen_s = max(float(self._slots.accepted_s[lease["first"]]), lease["opened_s"])
        return max(0.0, now_s - seen_s)
