"""A server whose policy costs nothing: real frontends, channel, slots, leases and batching, and every action is 0.

What is left is transport. The device process's share runs in a thread of the calling process.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.inference.batching import Batcher
from seedbed.server.inference.leases import LeaseTable
from seedbed.server.inference.policy import Inference
from seedbed.server.inference.policy_server import Frontends, Identity
from seedbed.server.inference.service import InferenceService
from seedbed.server.options.serving import ServingConfig
from seedbed.server.shared.slots import SlotTable
from tests.bench.accounting import Snapshot

_START_TIMEOUT_S = 60.0
_DRAIN_S = 2.0
_TURN_S = 0.1


class ZeroInference:
    """Takes the place of `Inference`: answers and remembers nothing.

    Attributes:
        num_steps: answered rows.
    """

    def __init__(self, slots: SlotTable) -> None:
        self._slots = slots
        self._actions = [np.zeros((slots.num_slots, *spec.shape), spec.numpy_dtype) for spec in slots.spec.actions]
        self.num_steps = 0

    def begin(
        self, slots: NDArray[np.int64], lease: int, environment_indices: Sequence[int], tasks: Sequence[int]
    ) -> None:
        """Nothing to begin."""

    def act(self, slots: NDArray[np.int64], watched: bool = False) -> None:
        """Writes zeros."""
        self._slots.answer(slots, [actions[: len(slots)] for actions in self._actions], 0)
        self.num_steps += len(slots)

    def remember(self, answered: None) -> NDArray[np.int64]:
        """No unroll is ever complete."""
        return np.empty(0, np.int64)


class _NoSink:
    """Takes unrolls, of which there are none."""

    def hand_over(self, slots: NDArray[np.int64]) -> None:
        """Never called."""

    def cut(self, slots: NDArray[np.int64]) -> None:
        """Nothing is open."""


class ZeroServer:
    """The server; use it as a context.

    Attributes:
        address: HOST:PORT.
        inference: counts the steps.
    """

    def __init__(self, spec: EnvironmentSpec, config: ServingConfig, num_slots: int) -> None:
        slots = SlotTable(spec, num_slots)
        self._config = config
        self._thread = threading.Thread(target=self._serve, name="zero policy")
        self._frontends = Frontends(config, slots, Identity(run_name="bench", version="0"))
        self.address = self._frontends.port.address
        self.inference = ZeroInference(slots)
        self._service = InferenceService(
            slots=slots,
            leases=LeaseTable(num_slots=num_slots, grace_s=config.grace_s),
            batcher=Batcher(
                max_rows=config.max_inference_batch,
                max_wait_s=config.max_wait_ms / 1000,
                wait_when_idle=config.wait_when_idle,
            ),
            inference=cast(Inference, self.inference),
            sink=_NoSink(),
            on_episode=lambda index, end, client: None,
            vitals=self._frontends.vitals.device,
        )

    @property
    def frontend_pids(self) -> list[int]:
        """Process ids of the frontends."""
        children = multiprocessing.active_children()
        return [child.pid for child in children if child.pid and child.name.startswith("seedbed-frontend")]

    def snapshot(self) -> tuple[Snapshot, Snapshot]:
        """CPU times of the frontends, and of the thread that stands for the device process."""
        thread = (os.getpid(), self._thread.native_id)
        device = {key: time for key, time in Snapshot.of([os.getpid()]).threads.items() if key == thread}
        return Snapshot.of(self.frontend_pids), Snapshot(device)

    def __enter__(self) -> Self:
        for number in range(self._config.frontends):
            self._service.links.adopt(number, self._frontends.start(number))
        self._thread.start()
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while len(self._service.ready_frontends) < self._config.frontends:
            assert time.monotonic() < deadline_s, f"no frontend within {_START_TIMEOUT_S:g} s"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._service.stop()
        self._thread.join()
        stop = {"type": "stop", "reason": "finished", "retry_after_ms": 1000, "grace_s": _DRAIN_S}
        self._service.links.broadcast(stop)
        self._frontends.join(_DRAIN_S + 5)
        self._service.links.close()

    def _serve(self) -> None:
        while not self._service.stopping:
            self._service.turn(_TURN_S)
