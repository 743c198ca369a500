"""A bounded first-in first-out queue of unrolls on the device, between the inference thread and the learner.

Full means back-pressure: `put` waits, so actors wait, and the policy lag stays bounded by what the queue and the open
unrolls hold. Unrolls are copied in and out of storage that was allocated at the start.

Shapes: L rows of an unroll, B unrolls of a train batch, K stacked frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.source import Source
from seedbed.server.experience.stored_unrolls import Marker, StoredUnrolls
from seedbed.server.experience.unroll import Provenance, UnrollLayout


class UnrollFifo(Source):
    """Each unroll is trained on once, in order."""

    def __init__(self, layout: UnrollLayout, capacity: int, device: torch.device) -> None:
        """Allocates room for `capacity` unrolls."""
        super().__init__()
        self.capacity = capacity
        self._storage = StoredUnrolls(layout, capacity, device)
        self._free = deque(range(capacity))
        self._ready: deque[tuple[int, Provenance]] = deque()
        self._written = Marker(device)
        self._taken = Marker(device)

    def __len__(self) -> int:
        """Unrolls that wait."""
        return len(self._ready)

    def drain(self) -> list[Provenance]:
        """Forgets what waits and says what it was."""
        with self._moved:
            dropped = [provenance for _, provenance in self._ready]
            self._free.extend(place for place, _ in self._ready)
            self._ready.clear()
        return dropped

    def metrics(self) -> Mapping[str, float]:
        """For the log."""
        return {"unrolls_queued": len(self)}

    def _room(self) -> int:
        return len(self._free)

    def _may_take(self, size: int) -> bool:
        return len(self._ready) >= size

    def _insert(self, open_unrolls: OpenUnrolls, sources: Sequence[Provenance]) -> None:
        with self._moved:
            places = [self._free.popleft() for _ in sources]
        self._taken.wait()
        self._storage.copy_in(open_unrolls, np.array([source.slot for source in sources]), np.array(places))
        self._written.record()
        with self._moved:
            self._ready.extend(zip(places, sources, strict=True))
            self._moved.notify_all()

    def _take(self, size: int) -> TrainBatch:
        with self._moved:
            taken = [self._ready.popleft() for _ in range(size)]
        self._written.wait()
        places, provenance = zip(*taken, strict=True)
        batch = self._storage.gather(np.array(places), provenance)
        self._taken.record()
        with self._moved:
            self._free.extend(places)
            self._moved.notify_all()
        return batch
