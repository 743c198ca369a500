"""A bounded first-in first-out queue of unrolls on the device, between the inference thread and the learner.

Full means back-pressure: `put` waits, so actors wait, and the policy lag stays bounded by what the queue and the open
unrolls hold. Unrolls are copied in and out of storage that was allocated at the start.

Shapes: L rows of an unroll, B unrolls of a train batch, K stacked frames.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.server.experience.frames import gather_stacks
from seedbed.server.experience.layout import Provenance, Rows, TrainBatch, UnrollLayout, valid_transitions
from seedbed.server.experience.unrolls import UnrollStore

_POLL_S = 0.1  # how soon a waiting thread notices that the queue was closed while nothing moved


class UnrollFifo:
    """Written by one thread and read by one other."""

    def __init__(self, layout: UnrollLayout, capacity: int, device: torch.device) -> None:
        """Allocates room for `capacity` unrolls."""
        self.capacity = capacity
        self._layout = layout
        self._device = device
        self._rows = Rows(layout, capacity, device)
        self._frames = tuple(tensor.flatten(0, 1) for tensor in self._rows.observations)
        self._free = deque(range(capacity))
        self._ready: deque[tuple[int, Provenance]] = deque()
        self._moved = threading.Condition()
        self._written = _Marker(device)
        self._taken = _Marker(device)
        self._closed = False

    def __len__(self) -> int:
        """Unrolls that wait."""
        return len(self._ready)

    def put(self, store: UnrollStore, slots: NDArray[np.int64]) -> int:
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
            self._copy(store, part, places)
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
        batch = self._gather([place for place, _ in taken], tuple(provenance for _, provenance in taken))
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

    def _copy(self, store: UnrollStore, slots: NDArray[np.int64], places: list[int]) -> None:
        source = torch.from_numpy(slots).to(self._device)
        target = torch.tensor(places, device=self._device)
        for ours, theirs in zip(self._rows.observations, store.rows.observations, strict=True):
            ours.index_copy_(0, target, theirs.index_select(0, source))
        for name, tensor in self._rows.fields.items():
            tensor.index_copy_(0, target, store.rows.fields[name].index_select(0, source))
        for tensor, state in zip(self._rows.state, store.initial_state(slots), strict=True):
            tensor.index_copy_(0, target, state)

    def _gather(self, places: list[int], provenance: tuple[Provenance, ...]) -> TrainBatch:
        index = torch.tensor(places, device=self._device)
        fields = {
            name: tensor.index_select(0, index).transpose(0, 1).contiguous()
            for name, tensor in self._rows.fields.items()
        }
        length = torch.tensor([source.length for source in provenance], device=self._device)
        return TrainBatch(
            observations=tuple(self._stacks(frames, index, fields["age"]) for frames in self._frames),
            fields=fields,
            state=tuple(tensor.index_select(0, index) for tensor in self._rows.state),
            valid=valid_transitions(fields["step_type"], length),
            provenance=provenance,
        )

    def _stacks(self, frames: Tensor, places: Tensor, age: Tensor) -> Tensor:
        """`[L, B, K, ...]`, gathered straight into time-major order."""
        history, num_rows = self._layout.history, self._layout.num_rows
        rows = torch.arange(num_rows, device=self._device)[:, None]
        newest = places * (history + num_rows) + history + rows  # [L, B]
        stacks = gather_stacks(frames, newest.flatten(), age.flatten(), history + 1)
        return stacks.unflatten(0, newest.shape)


class _Marker:
    """Orders work of two CUDA streams; on a CPU, where every copy is done when the call returns, it does nothing."""

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event() if device.type == "cuda" else None

    def record(self) -> None:
        if self._event is not None:
            self._event.record()

    def wait(self) -> None:
        if self._event is not None:
            self._event.wait()
