"""The open unrolls: one per slot, filled row by row on the device, handed out when complete.

Observations enter at inference, which needs them there anyway; everything else follows after the actors have their
actions. All slots of one lease move in step, but nothing here relies on it.

The agent state entering row k * period of a lease is kept until the unroll that starts there is complete. With an
overlap of more than one row several unrolls of a slot are open at once, so a small ring of captures is kept. (Capturing
the state when an unroll completes instead, as SEED does, is `overlap - 1` rows late.)

Shapes: S slots, N rows of an inference batch, L rows of an unroll, K stacked frames of an array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.timestep import StepType
from seedbed.server.experience.frames import StackIndex, copy_rows
from seedbed.server.experience.transfer import indices_to_device, to_device
from seedbed.server.experience.unroll import Provenance, UnrollLayout, UnrollRows, zero_state
from seedbed.server.networks.observations import as_stored

Slots = NDArray[np.int64]


class HostRow(NamedTuple):
    """What the host knows of a row, and need not ask the device for.

    Attributes:
        is_last: bool `[N]`.
        version: of the policy that acted; of a row that nobody has acted on any number.
    """

    is_last: NDArray[np.bool_]
    version: int | Slots


class OpenUnrolls:
    """Open unrolls of S slots. Used by the inference thread alone.

    Attributes:
        rows: the storage.
        position: `[S]`, rows of the open unroll that are filled.
    """

    def __init__(self, layout: UnrollLayout, num_slots: int, device: torch.device) -> None:
        """Allocates everything; nothing grows later."""
        self.layout = layout
        self.device = device
        self.rows = UnrollRows(layout, num_slots, device)
        self.position: Slots = np.zeros(num_slots, np.int64)
        self._end: Slots = np.full(num_slots, layout.num_rows, np.int64)  # of the open unroll
        self._seq: Slots = np.zeros(num_slots, np.int64)  # rows received under the present lease since its `restart`
        self._before: Slots = np.zeros(num_slots, np.int64)  # and before it
        self._lease: Slots = np.zeros(num_slots, np.int64)
        self._environment: Slots = np.zeros(num_slots, np.int64)
        self._is_last = np.zeros((num_slots, layout.num_rows), bool)
        self._version = np.zeros((num_slots, layout.num_rows), np.int64)
        self._captures = zero_state(layout, num_slots * layout.num_captures, device)
        self._frames = tuple(tensor.flatten(0, 1) for tensor in self.rows.observations)
        self._fields = {name: tensor.flatten(0, 1) for name, tensor in self.rows.fields.items()}

    def begin(self, slots: Slots, lease: int, environment_indices: Sequence[int]) -> None:
        """Slots have a new holder; what the last one left is forgotten."""
        # A shorter first unroll counts as one whose first rows were missed: so the periods fit by themselves.
        lead = self.layout.lead(slots)
        self.position[slots] = 0
        self._end[slots] = self.layout.num_rows - lead
        self._seq[slots] = lead
        self._before[slots] = -lead
        self._lease[slots] = lease
        self._environment[slots] = environment_indices

    def newest(self, slots: Slots) -> dict[int, Slots]:
        """For each number of frames that are kept before row 0, where the next frames `[N]` go."""
        layout = self.layout
        return {
            history: slots * (history + layout.num_rows) + history + self.position[slots]
            for history in set(layout.histories)
        }

    def row(self, slots: Slots) -> Slots:
        """The rows `[N]` that come next, among those of all slots."""
        return slots * self.layout.num_rows + self.position[slots]

    def observe(
        self,
        slots: Slots,
        observations: Sequence[Tensor],
        age: Tensor,
        newest: Mapping[int, Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """Stores the newest observations and returns them stacked.

        Args:
            slots: `[N]`.
            observations: `[N, ...]` for each array of `spec.shown`, on the device.
            age: int64 `[N]`, steps since FIRST, on the device.
            newest: what `newest` says, if it is on the device already.

        Returns:
            `[N, K, ...]` each, images in the layout's blocks.
        """
        layout = self.layout
        if newest is None:
            newest = {history: self._index(places) for history, places in self.newest(slots).items()}
        stacks = {history: StackIndex(places, age, history + 1) for history, places in newest.items()}
        for frames, observation, spec, block, history in zip(
            self._frames, observations, layout.spec.shown, layout.blocks, layout.histories, strict=True
        ):
            copy_rows(frames, stacks[history].newest, as_stored(observation, spec, block))
        return tuple(
            stacks[history].gather(frames) for frames, history in zip(self._frames, layout.histories, strict=True)
        )

    def append(
        self,
        slots: Slots,
        fields: Mapping[str, Tensor],
        state: Sequence[Tensor],
        row: Tensor | None = None,
        known: HostRow | None = None,
    ) -> Slots:
        """Completes the row whose observation was given to `observe`.

        Args:
            slots: `[N]`.
            fields: `[N, ...]` for every field of the layout.
            state: `[N, ...]` each, the agent state before this row.
            row: what `row` says, if it is on the device already.
            known: the same as in the fields, if the host has it; else it waits for the device.

        Returns:
            The slots whose unroll is complete now; `complete` must be called on them before the next row.
        """
        self._capture(slots, state)
        self.bootstrap(slots, fields, row, known)
        return slots[self.position[slots] == self._end[slots]]

    def bootstrap(
        self,
        slots: Slots,
        fields: Mapping[str, Tensor],
        row: Tensor | None = None,
        known: HostRow | None = None,
    ) -> None:
        """Adds a row that nobody has acted on yet, or ever will: it can only be the last of its unroll.

        Args:
            slots: `[N]`.
            fields: `[N, ...]`, those that are known; the others keep what stood there.
            row: what `row` says, if it is on the device already.
            known: see `append`.
        """
        at, known = self.position[slots], known or _ask(fields)
        self._is_last[slots, at], self._version[slots, at] = known
        if row is None:
            row = self._index(self.row(slots))
        for name, values in fields.items():
            self._fields[name].index_copy_(0, row, values)
        self.position[slots] += 1
        self._seq[slots] += 1

    def complete(self, slots: Slots) -> None:
        """Starts the next unroll of each slot with the rows the two share. Hand the finished ones out first."""
        overlap = self.layout.num_rows - self.layout.period
        shifts = self._end[slots] - overlap  # the period, but for a shorter first unroll
        for shift in np.unique(shifts).tolist():
            moved = slots[shifts == shift]
            for table in (self._is_last, self._version):
                table[moved, :overlap] = table[moved, shift : shift + overlap]
            index = self._index(moved)
            for tensor in (*self.rows.observations, *self.rows.fields.values()):
                kept = tensor.shape[1] - self.layout.period  # overlap, and for observations the history before it
                tensor[index, :kept] = tensor[index, shift : shift + kept]
        self.position[slots] = overlap
        self._end[slots] = self.layout.num_rows

    def restart(self, slots: Slots, *, repeat_last: bool) -> None:
        """Starts unrolls that share nothing with those before, at any row, in the midst of a lease.

        Args:
            slots: `[N]`.
            repeat_last: the last row comes again, with the action that it was missing; only its history stays.
        """
        begin = np.maximum(0, self.position[slots] - repeat_last)  # the row that comes next
        for shift in np.unique(begin):
            index = self._index(slots[begin == shift])
            for tensor, history in zip(self.rows.observations, self.layout.histories, strict=True):
                tensor[index, :history] = tensor[index, shift : shift + history]
        self._end[slots] = self.layout.num_rows
        self._before[slots] += self._seq[slots] - (self.position[slots] - begin)
        self._seq[slots] = 0
        self.position[slots] = 0

    def cut(self, slots: Slots) -> tuple[Slots, Slots]:
        """The lease of these slots is over. What is open may be handed out as it is, once, and then forgotten.

        Returns:
            The slots whose open unroll has a transition to train on that no unroll before it had, and the rest.
        """
        follows = self._before[slots] + self._seq[slots] > self.position[slots]
        worth = self.position[slots] - 1 > np.where(follows, self.layout.first_new, self.layout.trained_rows.start)
        return slots[worth], slots[~worth]

    def provenance(self, slots: Slots) -> list[Provenance]:
        """Where the open unrolls of these slots come from."""
        return [
            Provenance(
                slot=int(slot),
                lease=int(self._lease[slot]),
                environment_index=int(self._environment[slot]),
                first_seq=int(self._before[slot] + self._seq[slot] - self.position[slot]),
                length=int(self.position[slot]),
            )
            for slot in slots
        ]

    def valid(self, sources: Sequence[Provenance]) -> NDArray[np.bool_]:
        """Which transitions of open unrolls may be trained on, bool `[N, L - 1]`; see `batch.valid_transitions`."""
        slots, lengths = np.array([(source.slot, source.length) for source in sources], np.int64).T
        return (np.arange(1, self.layout.num_rows) < lengths[:, None]) & ~self._is_last[slots, :-1]

    def oldest_version(self, sources: Sequence[Provenance]) -> int | None:
        """The oldest policy that acted in those; None: there are none."""
        slots = np.array([source.slot for source in sources], np.int64)
        versions = self._version[slots, :-1][self.valid(sources)]
        return int(versions.min()) if len(versions) else None

    def initial_state(self, slots: Slots) -> tuple[Tensor, ...]:
        """The agent state before row 0 of the open unrolls, `[N, ...]` each."""
        if not self._captures:
            return ()
        first = self._seq[slots] - self.position[slots]
        place = self._index(self._capture_place(slots, first))
        return tuple(capture.index_select(0, place) for capture in self._captures)

    def _capture(self, slots: Slots, state: Sequence[Tensor]) -> None:
        chosen = np.flatnonzero((self._seq[slots] % self.layout.period == 0) | (self.position[slots] == 0))
        if not len(chosen) or not self._captures:
            return
        place, row = indices_to_device(
            self.device, self._capture_place(slots[chosen], self._seq[slots[chosen]]), chosen
        )
        for capture, part in zip(self._captures, state, strict=True):
            capture.index_copy_(0, place, part.index_select(0, row))

    def _capture_place(self, slots: Slots, seq: Slots) -> Slots:
        ring = self.layout.num_captures
        return slots * ring + (seq // self.layout.period) % ring

    def _index(self, values: Slots) -> Tensor:
        return to_device(values, self.device)


def _ask(fields: Mapping[str, Tensor]) -> HostRow:
    version = fields.get("policy_version")
    is_last = (fields["step_type"] == StepType.LAST).cpu().numpy()
    return HostRow(is_last, 0 if version is None else version.cpu().numpy())
