"""A bounded first-in first-out queue of unrolls on the device, between the inference thread and the learner.

Full means back-pressure: `put` waits, so actors wait, and the policy lag stays bounded by what the queue and the open
unrolls hold. Unrolls are copied in and out of storage that was allocated at the start.

Shapes: L rows of an unroll, B unrolls of a train batch, K stacked frames.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.stored_unrolls import Marker, StoredUnrolls
from seedbed.server.experience.unroll import Provenance, UnrollLayout

_POLL_S = 0.1  # how soon a waiting thread notices that the queue was closed while nothing moved


class UnrollFifo:
    """Written by one thread and read by one other."""

    def __init__(self, layout: UnrollLayout, capacity: int, device: torch.device) -> None:
        """Allocates room for `capacity` unrolls."""
        self.capacity = capacity
        self._storage = StoredUnrolls(layout, capacity, device)
        self._free = deque(range(capacity))
        self._ready: deque[tuple[int, Provenance]] = deque()
        self._moved = threading.Condition()
        self._written = Marker(device)
        self._taken = Marker(device)
        self._closed = False

    def __len__(self) -> int:
        """Unrolls that wait."""
        return len(self._ready)

    def put(self, store: OpenUnrolls, slots: NDArray[np.int64]) -> int:
        """Copies the open unrolls of these slots in, waiting for room as long as it takes.

        Returns:
            How many went in: fewer than asked only when the queue was closed.
        """
        done = 0
        while done < len(slots):
            places = self._reserve(len(slots) - done)
            if not places:
                break
            part = slots[done : done + len(places)]
            self._taken.wait()
            self._storage.copy_in(store, part, np.array(places))
            self._written.record()
            with self._moved:
                self._ready.extend(zip(places, store.provenance(part), strict=True))
                self._moved.notify_all()
            done += len(places)
        return done

    def get(self, batch_size: int) -> TrainBatch | None:
        """Takes the B oldest unrolls, waiting for them as long as it takes.

        Returns:
            The batch, or None when the queue was closed.
        """
        with self._moved:
            while len(self._ready) < batch_size and not self._closed:
                self._moved.wait(_POLL_S)
            if self._closed:
                return None
            taken = [self._ready.popleft() for _ in range(batch_size)]
        self._written.wait()
        places, provenance = zip(*taken, strict=True)
        batch = self._storage.gather(np.array(places), provenance)
        self._taken.record()
        with self._moved:
            self._free.extend(place for place, _ in taken)
            self._moved.notify_all()
        return batch

    def update_priorities(self, batch: TrainBatch, priorities: Tensor) -> None:
        """A queue has none."""
        raise NotImplementedError("expected an algorithm without priorities behind a queue")

    def drain(self) -> list[Provenance]:
        """Forgets what waits and says what it was: for the account at shutdown."""
        with self._moved:
            dropped = [provenance for _, provenance in self._ready]
            self._free.extend(place for place, _ in self._ready)
            self._ready.clear()
        return dropped

    def metrics(self) -> Mapping[str, float]:
        """For the log."""
        return {"unrolls_queued": len(self)}

    def close(self) -> None:
        """Wakes both sides; from now on nothing waits."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()

    def _reserve(self, wanted: int) -> list[int]:
        with self._moved:
            while not self._free and not self._closed:
                self._moved.wait(_POLL_S)
            if self._closed:
                return []
            return [self._free.popleft() for _ in range(min(wanted, len(self._free)))]
