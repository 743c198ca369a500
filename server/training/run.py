"""The composition root of training: builds the parts, runs the device loops, stops them in order.

Threads of this process: inference (owns slots, leases, agent states and open unrolls), learner, and the main one, which
supervises, logs and writes checkpoints. Frontends and local clients are processes of their own.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from importlib.metadata import version

import torch

from seedbed.common.errors import DivergedError
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import EpisodeEnd
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.registry import make_algorithm
from seedbed.server.experience.account import DiscardingSink
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.regimes import REGIMES
from seedbed.server.inference.parameters import Parameters
from seedbed.server.inference.policy_server import Frontends, Identity, PolicyServer
from seedbed.server.learning.learner import Learner
from seedbed.server.learning.loop import LearnerLoop
from seedbed.server.learning.thread import LearnerThread
from seedbed.server.monitoring.interval_log import IntervalLog
from seedbed.server.monitoring.metrics import EpisodeWindow, MetricsWriter
from seedbed.server.monitoring.progress import Progress
from seedbed.server.monitoring.watch import make_watch
from seedbed.server.monitoring.watchdog import end_process
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.checkpoint import CheckpointStore
from seedbed.server.run.directory import RunDirectory
from seedbed.server.run.replay_files import ReplayFiles
from seedbed.server.run.saving import Saver
from seedbed.server.run.state import RunState
from seedbed.server.shared.slots import SlotTable
from seedbed.server.training.assemble import choose_device, make_acting_network, make_layout, make_service, make_source
from seedbed.server.training.local_clients import LocalClients
from seedbed.server.training.stop_signal import StopSignal

logger = logging.getLogger(__name__)

_TICK_S = 0.1


class TrainingRun:
    """This process's share of a run: from the start or a checkpoint to its end."""

    def __init__(
        self,
        config: ServerConfig,
        spec: EnvironmentSpec,
        directory: RunDirectory,
        state: RunState,
        stop: StopSignal,
        *,
        local: bool,
        progress: Progress,
    ) -> None:
        """Builds and restores; nothing runs yet.

        Args:
            config: of the run.
            spec: the environment's.
            directory: where the run lives.
            state: where it stands; a fresh one for a new run.
            stop: says when somebody asks to finish.
            local: start environment clients on this machine.
            progress: shows the run to a person.
        """
        self._config = config
        self._state = state
        self._stop = stop
        slots = SlotTable(spec, config.num_slots)
        identity = Identity(run_name=directory.name, version=version("seedbed"))
        frontends = Frontends(config.serving, slots, identity, config.monitoring.stall_limit_s)
        self._monitoring = make_watch(config, spec, frontends.vitals, identity.version)
        self._saver = Saver(CheckpointStore(directory.checkpoints), frontends.vitals.device)
        device = choose_device(config.run)
        torch.manual_seed(config.environment.seed)
        algorithm = make_algorithm(config, spec)
        self._regime = REGIMES[algorithm.regime]
        learner = Learner(algorithm, config.optimiser, device)
        if state.learner is not None:
            learner.set_state(state.learner)
        store = OpenUnrolls(make_layout(config, spec, algorithm, learner.network), slots.num_slots, device)
        self._queue, self._collector = make_source(config, algorithm, store)
        self._replay_files = self._restore_replay(directory)
        parameters = Parameters(
            lambda: make_acting_network(algorithm, device), learner.network, version=learner.num_updates
        )
        self._episodes = EpisodeWindow.from_state(state.episodes)
        self._server = self._make_server(frontends, algorithm, parameters, slots, store)
        self._loop = LearnerLoop(
            learner,
            self._queue,
            parameters,
            algorithm.batch_size,
            self._share_done,
            frontends.vitals.device,
            state.consumed,
            config.learning.publish_every,
        )
        self._learner = LearnerThread(self._loop, config.monitoring.max_lost_updates, self._on_learner_failure)
        yielding = self._regime.clients_yield
        self._clients = LocalClients(config, self._server.address, yielding=yielding) if local else None
        self._telemetry = self._make_telemetry(directory, spec, progress)
        self._start_s = time.monotonic()

    def _restore_replay(self, directory: RunDirectory) -> ReplayFiles:
        kept = self._queue.contents if self._config.replay.checkpoint_replay else None
        files = ReplayFiles(directory.path, kept)
        files.load(self._state.agent_steps)
        return files

    def _make_server(
        self, frontends: Frontends, algorithm: Algorithm, parameters: Parameters, slots: SlotTable, store: OpenUnrolls
    ) -> PolicyServer:
        config = self._config
        server = PolicyServer(
            config=config.serving,
            frontends=frontends,
            algorithm=algorithm,
            parameters=parameters,
            slots=slots,
            unrolls=store,
            sink=self._collector if config.run.train else DiscardingSink(store),
            on_episode=self._on_episode,
            device=store.device,
            seed=config.environment.seed,
            steps_before=self._state.agent_steps,
            greedy_environments=config.fleet.greedy_environments,
            make_service=make_service(config, algorithm),
        )
        if self._state.random is not None:
            server.inference.random_state = self._state.random
        return server

    def _make_telemetry(self, directory: RunDirectory, spec: EnvironmentSpec, progress: Progress) -> IntervalLog:
        state, local = self._state, self._clients is not None
        return IntervalLog(
            self._config.run,
            spec,
            MetricsWriter(directory.path, resume_step=state.agent_steps, resume_wall_s=state.wall_s),
            progress,
            waiting_for="local environments" if local else f"seedbed env --server {self._server.address}",
        )

    def run(self) -> str:
        """Trains until a stop condition or a signal, then saves. Returns why it ended, for people."""
        self._monitoring.start()
        try:
            reached = self._train()
            self._shut_down(reached)
            self._learner.check()
            self._save(reached, last=True)
        finally:
            self._monitoring.stop()
        self._telemetry.close(f"{reached or 'stopped'}; {self._current_state().describe()}")
        return reached or f"stopped by {self._stop.name}"

    def _train(self) -> str | None:
        """Starts and supervises, unless told to stop before. A failure ends it with whatever can still be saved."""
        try:
            if self._stop.name is not None:
                return None
            self._start()
            return self._supervise()
        except torch.AcceleratorError:
            # What the device says cannot be trusted any more, and asking it again fails or hangs.
            logger.critical(
                "the device is lost: started again, the run goes on from its last checkpoint", exc_info=True
            )
            end_process()
        except BaseException as error:
            self._shut_down(None)
            if self._learner.sound and not isinstance(error, DivergedError):
                self._save(None, last=True)
            raise

    def _start(self) -> None:
        self._server.start()
        self._learner.start()
        if self._clients is not None:
            self._clients.start()
        logger.info("serving on %s", self._server.address)

    def _supervise(self) -> str | None:
        """Watches, logs and saves. Returns the stop condition that was reached, or None after a signal."""
        run = self._config.run
        next_log_s = time.monotonic()
        next_save_s = next_log_s + run.checkpoint_interval_s
        vitals = self._server.vitals.device
        while self._stop.name is None:
            time.sleep(_TICK_S)
            vitals["queued_unrolls"] = len(self._queue)
            self._check_alive()
            state = self._current_state()
            reached = state.stop_condition(run)
            if time.monotonic() >= next_log_s or reached:
                self._log(state)
                next_log_s = time.monotonic() + run.log_interval_s
            if reached:
                return reached
            if time.monotonic() >= next_save_s:
                self._save(None)
                next_save_s = time.monotonic() + run.checkpoint_interval_s
        return None

    def _check_alive(self) -> None:
        """A dead part is replaced where that loses nothing, and otherwise ends the run."""
        self._server.check()
        self._monitoring.check()
        if self._clients is not None:
            self._clients.check()
        self._learner.check()

    def _shut_down(self, reached: str | None) -> None:
        """Local clients leave; then nothing is answered and remote ones are told; then the learner; then the files."""
        self._server.announce_stop()
        self._queue.close()  # or a full queue could hold inference up
        if self._clients is not None:
            self._clients.stop()
        self._server.stop("finished" if reached else "restarting")
        self._learner.join()
        self._collector.finish()

    def _save(self, reached: str | None, *, last: bool = False) -> None:
        """Writes a checkpoint, and with the last one of this start the replay."""
        learner = self._loop.snapshot()
        random = self._server.inference.random_state
        self._saver.save(replace(self._current_state(), finished=reached, random=random, learner=learner))
        if last:
            self._replay_files.save(self._current_state().agent_steps)

    def _current_state(self) -> RunState:
        """Where the run stands, without the learner's tensors."""
        return RunState(
            agent_steps=self._state.agent_steps + self._server.inference.num_steps,
            consumed=self._loop.consumed,
            updates=self._loop.learner.num_updates,
            wall_s=self._state.wall_s + time.monotonic() - self._start_s,
            episodes=self._episodes.get_state(),
        )

    def _log(self, state: RunState) -> None:
        account = self._collector.account
        metrics = self._loop.take_metrics() | {
            **self._queue.metrics(),
            "transitions_trained": self._loop.trained,
            "transitions_dropped": account.dropped,
            "unrolls_cut": account.cut_unrolls,
        }
        self._telemetry.log(state, self._server.vitals, metrics)

    def _share_done(self) -> float:
        """Of the run: by what was learnt from, or by what was done, as the regime has it."""
        done = self._current_state().agent_steps if self._regime.counts_agent_steps else self._loop.consumed
        return done / self._config.run.max_steps

    def _on_episode(self, environment_index: int, end: EpisodeEnd) -> None:
        self._server.vitals.device.add("episodes")
        if self._config.fleet.shows_score(environment_index):
            self._episodes.add(end.episode_return, end.steps, end.frames)

    def _on_learner_failure(self) -> None:
        self._server.fail()
        self._queue.close()
