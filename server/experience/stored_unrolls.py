"""Places for unrolls on a device: copied in from the open ones, gathered as train batches. Who may use which place
when is the caller's business.

Shapes: L rows of an unroll, B unrolls of a train batch, W rows of each that are in it, K stacked frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.server.experience.batch import TrainBatch, Windows, valid_transitions
from seedbed.server.experience.frames import StackIndex, copy_rows, select_rows, unroll_windows
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.transfer import indices_to_device, put, to_device
from seedbed.server.experience.unroll import Provenance, UnrollLayout, UnrollRows

Places = NDArray[np.int64]


class StoredUnrolls:
    """`capacity` unrolls, allocated at the start.

    Attributes:
        layout: of each.
        capacity: how many.
        device: where they are kept.
    """

    def __init__(
        self, layout: UnrollLayout, capacity: int, device: torch.device, batch_device: torch.device | None = None
    ) -> None:
        """Allocates.

        Args:
            layout: of each unroll.
            capacity: how many.
            device: where they are kept.
            batch_device: where train batches go; the same if None.
        """
        self.capacity = capacity
        self.device = device
        self._rows = UnrollRows(layout, capacity, device)
        self.layout = layout
        self._batch_device = device if batch_device is None else batch_device
        self._frames = tuple(tensor.flatten(0, 1) for tensor in self._rows.observations)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """All contents, by a name that is stable: `[capacity, ...]` each."""
        named = {f"observation.{i}": tensor for i, tensor in enumerate(self._rows.observations)}
        named |= {f"field.{name}": tensor for name, tensor in self._rows.fields.items()}
        return named | {f"state.{i}": tensor for i, tensor in enumerate(self._rows.state)}

    def copy_in(self, store: OpenUnrolls, slots: NDArray[np.int64], places: Places) -> None:
        """Copies the open unrolls of these slots to these places, none of them twice."""
        source, target = self._two_indices(slots, places, store.device)
        for ours, theirs in zip(self._rows.observations, store.rows.observations, strict=True):
            if ours.device.type == "cpu" and theirs.device.type == "cpu":
                _copy_rows(ours, places, theirs, slots)
            else:
                copy_rows(ours, target, select_rows(theirs, source).to(self.device))
        for name, tensor in self._rows.fields.items():
            tensor.index_copy_(0, target, store.rows.fields[name].index_select(0, source).to(self.device))
        for tensor, state in zip(self._rows.state, store.initial_state(slots), strict=True):
            tensor.index_copy_(0, target, state.to(self.device))

    def gather(self, places: Places, provenance: Sequence[Provenance]) -> TrainBatch:
        """The unrolls of these places, whose provenance the caller has kept, as a train batch."""
        layout = self.layout
        index, lengths = indices_to_device(self.device, places, _lengths(provenance))
        fields = self._fields(index)
        return TrainBatch(
            observations=self._stacks(index, fields["age"]),
            fields={name: self._to_batch(tensor) for name, tensor in fields.items()},
            state=tuple(self._to_batch(tensor.index_select(0, index)) for tensor in self._rows.state),
            valid=self._to_batch(valid_transitions(fields["step_type"], lengths)),
            provenance=tuple(provenance),
            trained_rows=layout.trained_rows,
        )

    def gather_windows(
        self, places: Places, first_rows: NDArray[np.int64], num_rows: int, provenance: Windows
    ) -> TrainBatch:
        """A few rows of each of these unrolls as a train batch whose first transition alone is trained on.

        Args:
            places: `[B]`.
            first_rows: `[B]`, the first row of each.
            num_rows: W, rows of each.
            provenance: of these rows.

        Returns:
            `[W, B, ...]`; without agent state, which is known before row 0 of an unroll alone.
        """
        index, first, lengths = indices_to_device(self.device, places, first_rows, provenance.lengths)
        rows = first + torch.arange(num_rows, device=self.device)[:, None]
        flat = (index * self.layout.num_rows + rows).flatten()
        fields = {
            name: tensor.flatten(0, 1).index_select(0, flat).unflatten(0, rows.shape)
            for name, tensor in self._rows.fields.items()
        }
        return TrainBatch(
            observations=self._stacks(index, fields["age"], rows),
            fields={name: self._to_batch(tensor) for name, tensor in fields.items()},
            state=(),
            valid=self._to_batch(valid_transitions(fields["step_type"], lengths)),
            provenance=provenance,
            trained_rows=range(1),
        )

    def gather_recorded(self, places: Places, provenance: Sequence[Provenance]) -> TrainBatch:
        """The same as `gather` without observations and agent state, where the unrolls are kept."""
        index, lengths = indices_to_device(self.device, places, _lengths(provenance))
        fields = self._fields(index)
        valid = valid_transitions(fields["step_type"], lengths)
        return TrainBatch((), fields, (), valid, tuple(provenance), self.layout.trained_rows)

    def valid(self, places: Places, provenance: Sequence[Provenance]) -> Tensor:
        """Which transitions of these unrolls may be trained on, bool `[L - 1, B]`."""
        index, lengths = indices_to_device(self.device, places, _lengths(provenance))
        return valid_transitions(self._rows.fields["step_type"].index_select(0, index).T, lengths)

    def _fields(self, index: Tensor) -> dict[str, Tensor]:
        return {
            name: tensor.index_select(0, index).transpose(0, 1).contiguous()
            for name, tensor in self._rows.fields.items()
        }

    def _two_indices(self, slots: NDArray[np.int64], places: Places, device: torch.device) -> tuple[Tensor, Tensor]:
        """Slots where the open unrolls are, on `device`, and places where these are."""
        if device == self.device:
            source, target = indices_to_device(device, slots, places)
        else:
            source, target = to_device(slots, device), to_device(places, self.device)
        return source, target

    def _stacks(self, places: Tensor, age: Tensor, rows: Tensor | None = None) -> tuple[Tensor, ...]:
        """Observations `[W, B, K, ...]` of all rows, or of `rows` `[W, B]`, gathered straight into time-major order.

        On a CPU, where looking at ages costs nothing, unrolls without a stale frame are views of their frames.
        """
        num_rows, stacks = self.layout.num_rows, dict[int, StackIndex]()
        if rows is None and self._is_elsewhere:
            return self._stacks_there(places, self._to_batch(age))
        if rows is None and age.device.type == "cpu" and int(age.min()) >= max(self.layout.histories, default=0):
            pairs = zip(self._rows.observations, self.layout.histories, strict=True)
            return tuple(unroll_windows(kept.index_select(0, places), history + 1) for kept, history in pairs)
        if rows is None:
            rows = torch.arange(num_rows, device=self.device)[:, None]
        for history in set(self.layout.histories):
            newest = places * (history + num_rows) + history + rows  # [W, B]
            stacks[history] = StackIndex(newest.flatten(), age.flatten(), history + 1)
        return tuple(
            self._to_batch(stacks[history].gather(frames).unflatten(0, age.shape))
            for frames, history in zip(self._frames, self.layout.histories, strict=True)
        )

    @property
    def _is_elsewhere(self) -> bool:
        """Whether unrolls are kept on the host and learnt from on a device."""
        return self.device.type == "cpu" != self._batch_device.type

    def _stacks_there(self, places: Tensor, age: Tensor) -> tuple[Tensor, ...]:
        """The same of all rows, stacked where they are learnt from: only frames go there, each once."""
        made = []
        for kept, history in zip(self._rows.observations, self.layout.histories, strict=True):
            frames = self._to_batch(kept.index_select(0, places))
            first = torch.arange(len(frames), device=age.device) * frames.shape[1] + history
            newest = first + torch.arange(len(age), device=age.device)[:, None]  # [L, B]
            stacks = StackIndex(newest.flatten(), age.flatten(), history + 1).gather(frames.flatten(0, 1))
            made.append(stacks.unflatten(0, age.shape))
        return tuple(made)

    def _to_batch(self, tensor: Tensor) -> Tensor:
        return put(tensor, self._batch_device) if self._is_elsewhere else tensor.to(self._batch_device)


class Marker:
    """Orders work of two CUDA streams, or of one and its host.

    On a CPU, where every copy is done when the call returns, it does nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event() if device.type == "cuda" else None

    def record(self) -> None:
        """What this stream was given so far is what the other one must wait for."""
        if self._event is not None:
            self._event.record()

    def wait(self) -> None:
        """This stream goes on only after what the other one recorded last."""
        if self._event is not None:
            self._event.wait()

    def wait_on_host(self) -> None:
        """This thread goes on only when that is done: before host memory is written that a copy still reads."""
        if self._event is not None:
            self._event.synchronize()


def _copy_rows(ours: Tensor, places: NDArray[np.int64], theirs: Tensor, slots: NDArray[np.int64]) -> None:
    """ours[places] = theirs[slots], for large rows on a CPU: one by one, which copies once instead of twice."""
    for place, slot in zip(places.tolist(), slots.tolist(), strict=True):
        ours[place].copy_(theirs[slot])


def _lengths(provenance: Sequence[Provenance]) -> NDArray[np.int64]:
    return np.array([source.length for source in provenance], np.int64)
