"""The versioned hand-over of parameters from the learner to inference: the only backward edge, and the only lock.

Three acting copies of the network take turns: one is in use by inference, one holds the newest version, and one is
free to be written. So neither side ever waits for the other, and inference never sees a half-written version. A copy
is taken at a batch boundary and kept for the whole batch.

On a device a version is published before the update that it comes from is done there. Inference does not queue behind
that: it takes the newest version that is done. The learner publishes only when the version before is: it runs ahead of
the device by one update, which leaves the device nothing to wait for, and inference a version that is done.

Acting copies may hold parts of their weights in bfloat16: publishing converts.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seedbed.server.networks.interface import PolicyNetwork


class Parameters:
    """Written by the learner thread, read by the inference thread.

    Attributes:
        version: updates contained in the newest published parameters.
    """

    def __init__(self, source: PolicyNetwork, version: int = 0, *, on_policy: bool = False) -> None:
        """Makes the acting copies and publishes `source` as `version`.

        Args:
            source: what acts, as the learner has it, on the device of inference.
            version: updates it contains.
            on_policy: only the newest version may act, done or not.
        """
        self._on_policy = on_policy
        self._copies = [acting_copy(source) for _ in range(3)]
        self._versions = [version] * 3
        self._events: list[Any] = [None] * 3
        self._lock = threading.Lock()
        self._pairs: list[list[tuple[list[Tensor], list[Tensor]]]] = []
        self._source: PolicyNetwork | None = None
        self._newest = 0
        self._in_use = 0
        self._writing = 0
        self.publish(source, version)

    @property
    def copies(self) -> Sequence[PolicyNetwork]:
        """All that `acquire` ever gives."""
        return self._copies

    @property
    def version(self) -> int:
        """Updates contained in the newest published parameters."""
        with self._lock:
            return self._versions[self._newest]

    @torch.no_grad()
    def publish(self, source: PolicyNetwork, version: int) -> None:
        """Copies the learner's parameters; the next inference batch takes them."""
        if source is not self._source:  # finding tensors takes longer than copying those of a small network
            self._source = source
            self._pairs = [_by_dtype(_tensors(copied), _tensors(source)) for copied in self._copies]
        before = self._events[self._newest]
        if before is not None:
            before.synchronize()
        with self._lock:
            target = next(i for i in range(3) if i not in (self._newest, self._in_use))
            self._writing = target
        for ours, theirs in self._pairs[target]:
            torch._foreach_copy_(ours, theirs, non_blocking=True)
        event = _record_event(next(source.parameters()).device)
        with self._lock:
            self._versions[target], self._events[target] = version, event
            self._newest = self._writing = target

    def acquire(self) -> tuple[PolicyNetwork, int]:
        """The newest acting network and its version; the one acquired before may be overwritten from now on."""
        with self._lock:
            self._in_use = chosen = self._choose()
            network, version, event = self._copies[chosen], self._versions[chosen], self._events[chosen]
        if event is not None:
            event.wait()
        return network, version

    def _choose(self) -> int:
        """The newest copy that is done, or the newest of all where only that may act; under the lock."""
        newest = self._newest
        if self._on_policy or self._is_done(newest):
            return newest
        # The one being written is the newest, or neither in use nor done.
        others = [i for i in range(3) if i not in (newest, self._writing) and self._is_done(i)]
        return max(others, key=self._versions.__getitem__, default=newest)

    def _is_done(self, number: int) -> bool:
        event = self._events[number]
        return event is None or event.query()


def acting_copy(source: PolicyNetwork) -> PolicyNetwork:
    """A copy that acts and is never trained."""
    network = copy.deepcopy(source).requires_grad_(False)
    network.store_for_acting()
    return network


def _tensors(network: PolicyNetwork) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _by_dtype(ours: list[Tensor], theirs: list[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Tensors and their sources, together where dtypes are the same: each of these is one launch on a device."""
    groups: dict[tuple[torch.dtype, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
    for our, their in zip(ours, theirs, strict=True):
        pair = groups.setdefault((our.dtype, their.dtype), ([], []))
        pair[0].append(our)
        pair[1].append(their)
    return list(groups.values())


def _record_event(device: torch.device) -> Any:
    """Lets the other CUDA stream wait for the copy; on a CPU it is done already."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record()
    return event
