"""The server under test: real frontends, leases, batching, inference, unrolls and queue; an echo policy; a history.

A process of its own, so that it can be killed. The port is given, so that clients find the next incarnation.
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seedbed.common.echo import echo_decode
from seedbed.common.logs import setup_logging
from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.environments.echo import ECHO_SPECS
from seedbed.server.experience.account import Collector
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.unroll import UnrollLayout
from tests.chaos.history import Record, Writer
from tests.chaos.schedule import GRACE_S
from tests.system.audit import BATCH_SIZE, Audit
from tests.system.echo import ECHO_SPEC, CountingStore, EchoServer
from tests.system.echo_rows import checksums

FRONTENDS = 2
_SAMPLE_S = 0.1


class RecordingStore(CountingStore):
    """Writes who holds which slots, and where all transitions are whenever that changes.

    Attributes:
        collector: has the account; set before the server starts.
    """

    collector: Collector

    def __init__(self, history: Writer, layout: UnrollLayout, num_slots: int, device: torch.device) -> None:
        super().__init__(layout, num_slots, device)
        self._history = history

    def begin(self, slots: NDArray[np.int64], lease: int, environment_indices: Sequence[int]) -> None:
        """See the base class."""
        self._write_balance()
        self._history.write("begin", lease=lease, slots=slots.tolist(), environments=list(environment_indices))
        super().begin(slots, lease, environment_indices)

    def cut(self, slots: NDArray[np.int64]) -> Any:
        """See the base class."""
        self._write_balance()
        self._history.write("cut", slots=slots.tolist())
        return super().cut(slots)

    def _write_balance(self) -> None:
        account, held = self.collector.account, self.collector.open_transitions()
        self._history.write(
            "balance", received=self.received, queued=account.queued, dropped=account.dropped, open=held
        )


class Recorder(Audit):
    """Writes every unroll that comes out of the learner's queue; whether it is right is found out later."""

    def __init__(self, history: Writer, spec: EnvironmentSpec) -> None:
        super().__init__(spec)
        self._history = history

    def run(self, fifo: UnrollFifo) -> None:
        """Until the queue is closed."""
        while isinstance(batch := fifo.get(BATCH_SIZE), TrainBatch):
            for number in range(len(batch.provenance)):
                self._history.write("unroll", **unroll_record(self.spec, batch, number))


def unroll_record(spec: EnvironmentSpec, batch: TrainBatch, number: int) -> Record:
    """One unroll of a train batch: what really came, without the rows that stand there from before."""
    source = batch.provenance[number]
    fields = {name: tensor[: source.length, number].tolist() for name, tensor in batch.fields.items()}
    del fields["policy_version"]  # nobody learns
    fields["state"] = [state for (state,) in fields["state"]]
    shown = [array[: source.length, number, 0].numpy() for array in batch.observations]
    index, episode, step = echo_decode(shown[0])
    return {
        "slot": source.slot,
        "lease": source.lease,
        "environment": source.environment_index,
        "first_seq": source.first_seq,
        "length": source.length,
        "initial_state": batch.state[0][number].item(),
        "index": index.tolist(),
        "episode": episode.tolist(),
        "step": step.tolist(),
        "shown": checksums(spec, shown),
        "valid": batch.valid[:, number].tolist(),
        **fields,
    }


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM. Returns 0 after that, or 1 when it failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--num-slots", type=int, required=True)
    parser.add_argument("--environment", choices=ECHO_SPECS, default=ECHO_SPEC.environment)
    parser.add_argument("--history", type=Path, required=True)
    options = parser.parse_args(argv)
    setup_logging("chaos server")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with Writer(options.history) as history:
        return _serve(history, ECHO_SPECS[options.environment], options.port, options.num_slots, stopping)


def _serve(history: Writer, spec: EnvironmentSpec, port: int, num_slots: int, stopping: threading.Event) -> int:
    history.write("start", num_slots=num_slots, environment=spec.environment)
    echo = EchoServer(
        num_slots=num_slots,
        grace_s=GRACE_S,
        spec=spec,
        frontends=FRONTENDS,
        port=port,
        audit=Recorder(history, spec),
        make_store=partial(RecordingStore, history),
        stop_reason="restarting",
    )
    assert isinstance(echo.store, RecordingStore)
    echo.store.collector = echo.collector
    seen = 0
    with echo:
        history.write("serving")
        while echo.is_well and not stopping.wait(_SAMPLE_S):
            while seen < len(echo.episodes):
                index, end = echo.episodes[seen]
                seen += 1
                history.write("episode", environment=index, steps=end.steps)
            leases = echo.server.service.leases
            history.write("sample", live=leases.live_rows, used=leases.used_rows, leases=len(leases))
    if not stopping.is_set():
        return 1
    history.write("end", received=echo.store.received, dropped=echo.collector.account.dropped)
    return 0
