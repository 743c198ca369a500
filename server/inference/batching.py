"""When does an inference batch close? A pure decision: the caller brings the clock and the facts.

A batch closes as soon as any of these holds, so no number of missing, slow or frozen clients can stall the others:

- it is full;
- every live row that could still come is in;
- the oldest request has waited `max_wait_s`;
- the device is idle, and requests are there (with `wait_when_idle` off, the default).

Except at the start: no batch closes before the fleet has stopped growing for `settle_s`.
"""

from __future__ import annotations

from collections import OrderedDict


class Batcher:
    """Collects requests (leases whose rows are filled), oldest first."""

    def __init__(
        self, *, max_rows: int, max_wait_s: float, wait_when_idle: bool = False, settle_s: float = 0.0
    ) -> None:
        """Makes an empty batcher.

        Args:
            max_rows: N at most. A single lease with more rows than that still goes, alone.
            max_wait_s: how long the oldest request may wait for company.
            wait_when_idle: let requests wait for company even while the device has nothing to do. Larger batches at
                the price of latency; worth it where a batch costs much more than a row.
            settle_s: how long no row must have joined before the first batch.
        """
        if max_rows < 1 or max_wait_s < 0:
            raise ValueError(f"expected max_rows >= 1 and max_wait_s >= 0, got {max_rows} and {max_wait_s}")
        self.max_rows = max_rows
        self.max_wait_s = max_wait_s
        self.wait_when_idle = wait_when_idle
        self._settle_s = settle_s
        self._settled = False
        self._most_rows = 0
        self._grew_s = 0.0
        self._waiting: OrderedDict[int, tuple[int, float]] = OrderedDict()
        self.num_rows = 0

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def __contains__(self, lease: int) -> bool:
        """Whether a lease's request waits."""
        return lease in self._waiting

    def add(self, lease: int, num_rows: int, now_s: float) -> None:
        """A lease's rows are filled."""
        assert lease not in self._waiting, "a lease has at most one Steps in flight"
        self._waiting[lease] = (num_rows, now_s)
        self.num_rows += num_rows

    def discard(self, lease: int) -> None:
        """The lease has ended; its request, if any, is forgotten."""
        num_rows, _ = self._waiting.pop(lease, (0, 0.0))
        self.num_rows -= num_rows

    def is_ready(self, now_s: float, *, live_rows: int, device_idle: bool) -> bool:
        """Whether a batch should be taken now.

        Args:
            now_s: monotonic time.
            live_rows: rows of all leases that have a live stream. Leases in grace do not count.
            device_idle: nothing runs on the device.
        """
        if not self._waiting or not self._has_settled(now_s, live_rows):
            return False
        return (
            self.num_rows >= self.max_rows
            or self.num_rows >= live_rows
            or (device_idle and not self.wait_when_idle)
            or now_s >= self._oldest_s() + self.max_wait_s
        )

    def deadline_s(self) -> float | None:
        """When the oldest request has waited long enough, or None when nothing waits."""
        if not self._waiting:
            return None
        oldest_s = self._oldest_s() + self.max_wait_s
        return oldest_s if self._settled else max(oldest_s, self._grew_s + self._settle_s)

    def take(self) -> list[int]:
        """Removes and returns the leases of the next batch, oldest first."""
        taken: list[int] = []
        rows = 0
        for lease, (num_rows, _) in self._waiting.items():
            if taken and rows + num_rows > self.max_rows:
                break
            taken.append(lease)
            rows += num_rows
        for lease in taken:
            self.discard(lease)
        return taken

    def _has_settled(self, now_s: float, live_rows: int) -> bool:
        """Whether the fleet has stopped growing, now or at any time before."""
        if live_rows > self._most_rows:
            self._most_rows, self._grew_s = live_rows, now_s
        self._settled = self._settled or now_s >= self._grew_s + self._settle_s
        return self._settled

    def _oldest_s(self) -> float:
        return next(iter(self._waiting.values()))[1]
