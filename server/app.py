"""The composition root of a training run: builds the parts, runs the device loops, stops them in order.

Threads of this process: inference (owns slots, leases, agent states and open unrolls), learner, and this one, which
supervises, logs and writes checkpoints. Frontends and local clients are processes of their own.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

import torch

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.registry import make_algorithm
from seedbed.server.config import ServerConfig
from seedbed.server.experience.collector import Collector
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.unrolls import UnrollStore
from seedbed.server.learning.learner import Learner
from seedbed.server.learning.loop import LearnerLoop
from seedbed.server.learning.parameters import Parameters
from seedbed.server.operations.checkpoint import Checkpoint, CheckpointStore
from seedbed.server.operations.local_clients import LocalClients
from seedbed.server.operations.metrics import EpisodeWindow, MetricsWriter
from seedbed.server.operations.progress import Progress, Status
from seedbed.server.operations.run_directory import RunDirectory
from seedbed.server.operations.state import Counters, pack_checkpoint, unpack_checkpoint
from seedbed.server.parts import choose_device, make_acting_network, make_layout
from seedbed.server.serving.policy_server import Frontends, Identity, PolicyServer
from seedbed.server.serving.slots import SlotTable

logger = logging.getLogger(__name__)

_TICK_S = 0.1


@dataclass(slots=True)
class StopRequest:
    """Set by signal handlers; read by the supervisor."""

    signal_name: str | None = None


class TrainingRun:
    """One process's share of a run, from start or checkpoint to its end."""

    def __init__(
        self,
        *,
        config: ServerConfig,
        spec: EnvironmentSpec,
        directory: RunDirectory,
        checkpoint: Checkpoint | None,
        version: str,
        local: bool,
        progress: Progress,
        stop_request: StopRequest,
    ) -> None:
        """Builds and restores; nothing runs yet."""
        self._config = config
        self._progress = progress
        self._stop_request = stop_request
        self._checkpoints = CheckpointStore(directory.checkpoints)
        slots = SlotTable(spec, config.num_slots)
        frontends = Frontends(config.serving, slots, Identity(run_name=directory.name, version=version))
        device = choose_device(config.run)
        torch.manual_seed(config.environment.seed)

        algorithm = make_algorithm(config, spec)
        learner = Learner(algorithm, config.optimiser, device)
        self._base, random_state, self._episodes = Counters(), None, EpisodeWindow()
        if checkpoint is not None:
            learner_state, self._base, random_state, self._episodes = unpack_checkpoint(checkpoint)
            learner.set_state(learner_state)
        layout = make_layout(config, spec, algorithm, learner.network)
        store = UnrollStore(layout, slots.num_slots, device)
        self._fifo = UnrollFifo(layout, config.queue_unrolls, device)
        self._collector = Collector(store, self._fifo)
        parameters = Parameters(
            lambda: make_acting_network(algorithm, device), learner.network, version=learner.num_updates
        )
        self._server = PolicyServer(
            config=config.serving,
            frontends=frontends,
            algorithm=algorithm,
            parameters=parameters,
            slots=slots,
            unrolls=store,
            sink=self._collector,
            on_episode=self._episodes.add,
            device=device,
            seed=config.environment.seed,
        )
        if random_state is not None:
            self._server.inference.random_state = random_state
        self._loop = LearnerLoop(
            learner, self._fifo, parameters, algorithm.batch_size, self._share_done, consumed=self._base.consumed
        )
        self._learner_thread = threading.Thread(target=self._learn, name="learner", daemon=True)
        self._learner_failure: BaseException | None = None
        self._device = device
        self._spec = spec
        self._clients = LocalClients(config.fleet if local else None, config.environment, self._server.address)
        self._writer = MetricsWriter(directory.path, resume_step=self._base.agent_steps)
        self._started_s = time.monotonic()

    def run(self) -> str:
        """Trains until a stop condition or a signal.

        Returns:
            Why it ended, as a phrase.
        """
        self._server.start()
        self._learner_thread.start()
        self._clients.start()
        logger.info("serving %s on %s", self._spec.environment, self._server.address)
        finished: str | None = None
        try:
            finished = self._supervise()
            return finished or f"stopped by {self._stop_request.signal_name}"
        finally:
            self._shut_down(finished)

    def _supervise(self) -> str | None:
        """Watches, logs and saves. Returns the stop condition that was reached, or None for a signal."""
        next_log_s = next_save_s = time.monotonic()
        next_save_s += self._config.run.checkpoint_interval_s
        while self._stop_request.signal_name is None:
            time.sleep(_TICK_S)
            self._check_alive()
            now_s = time.monotonic()
            if now_s >= next_log_s:
                self._log()
                next_log_s = now_s + self._config.run.log_interval_s
            if now_s >= next_save_s:
                self._save(finished=None)
                next_save_s = time.monotonic() + self._config.run.checkpoint_interval_s
            if (reached := self._stop_condition()) is not None:
                return reached
        return None

    def _check_alive(self) -> None:
        """A dead part ends the run, or is replaced where that loses nothing."""
        self._server.check()
        self._clients.check()
        if self._learner_failure is not None:
            raise self._learner_failure

    def _stop_condition(self) -> str | None:
        counters, run = self._counters(), self._config.run
        return stop_condition(run, counters, self._episodes)

    def _shut_down(self, finished: str | None) -> None:
        """Inference first, so that nothing new arrives; then the learner; then everybody is told; then the files."""
        self._fifo.close()
        self._server.stop("finished" if finished else "restarting")
        self._learner_thread.join()
        self._clients.stop()
        self._collector.finish()
        self._log()
        self._save(finished)
        self._writer.close()
