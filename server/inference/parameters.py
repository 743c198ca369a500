"""The versioned hand-over of parameters from the learner to inference: the only backward edge, and the only lock.

Three acting copies of the network take turns: one is in use by inference, one holds the newest version, and one is
free to be written. So neither side ever waits for the other, and inference never sees a half-written version. A copy
is taken at a batch boundary and kept for the whole batch.

Acting copies may hold parts of their weights in bfloat16: publishing converts.
"""

from __future__ import annotations

import copy
import threading
from typing import Any

import torch

from seedbed.server.networks.interface import PolicyNetwork


class Parameters:
    """Written by the learner thread, read by the inference thread.

    Attributes:
        version: updates contained in the newest published parameters.
    """

    def __init__(self, source: PolicyNetwork, version: int = 0) -> None:
        """Makes the acting copies and publishes `source` as `version`.

        Args:
            source: what acts, as the learner has it, on the device of inference.
            version: updates it contains.
        """
        self._copies = [acting_copy(source) for _ in range(3)]
        self._versions = [version] * 3
        self._events: list[Any] = [None] * 3
        self._lock = threading.Lock()
        self._newest = 0
        self._in_use = 0
        self.publish(source, version)

    @property
    def version(self) -> int:
        """Updates contained in the newest published parameters."""
        with self._lock:
            return self._versions[self._newest]

    @torch.no_grad()
    def publish(self, source: PolicyNetwork, version: int) -> None:
        """Copies the learner's parameters; the next inference batch takes them."""
        with self._lock:
            target = next(i for i in range(3) if i not in (self._newest, self._in_use))
        pairs = zip(_tensors(self._copies[target]), _tensors(source), strict=True)
        for ours, theirs in pairs:
            ours.copy_(theirs, non_blocking=True)
        event = _record_event(next(source.parameters()).device)
        with self._lock:
            self._versions[target], self._events[target] = version, event
            self._newest = target

    def acquire(self) -> tuple[PolicyNetwork, int]:
        """The newest acting network and its version; the one acquired before may be overwritten from now on."""
        with self._lock:
            self._in_use = self._newest
            network, version, event = (
                self._copies[self._in_use],
                self._versions[self._in_use],
                self._events[self._in_use],
            )
        if event is not None:
            event.wait()
        return network, version


def acting_copy(source: PolicyNetwork) -> PolicyNetwork:
    """A copy that acts and is never trained."""
    network = copy.deepcopy(source).requires_grad_(False)
    network.store_for_acting()
    return network


def _tensors(network: PolicyNetwork) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]


def _record_event(device: torch.device) -> Any:
    """Lets the other CUDA stream wait for the copy; on a CPU it is done already."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record()
    return event
