"""A training run: starts the device loops, supervises, logs and saves, stops everything in order.

Threads of this process: inference (owns slots, leases, agent states and open unrolls), learner, and the main one, which
supervises, logs and writes checkpoints. Frontends and local clients are processes of their own.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import replace

import torch

from seedbed.common.errors import DivergedError, UnsavedError
from seedbed.common.report import report
from seedbed.server.inference.policy_server import PolicyServer
from seedbed.server.learning.exchange.meeting import Stop
from seedbed.server.learning.thread import LearnerThread
from seedbed.server.monitoring.episodes import EpisodeLog
from seedbed.server.monitoring.interval_log import IntervalLog
from seedbed.server.monitoring.watch import Watch
from seedbed.server.monitoring.watchdog import end_process
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.cohorts import Verdict
from seedbed.server.run.replay_files import ReplayFiles
from seedbed.server.run.saving import Saver
from seedbed.server.run.state import RunState
from seedbed.server.training.assemble import Parts, answers
from seedbed.server.training.local_clients import LocalClients
from seedbed.server.training.recorded_data import Recording
from seedbed.server.training.run_clock import RunClock
from seedbed.server.training.stop_signal import StopSignal

logger = logging.getLogger(__name__)

_TICK_S = 0.1
_FIRST_SAVE_S = 30.0
_BEST_INTERVAL_S = 10.0  # a run whose cohorts last a second, each better than the one before, must not live in saving


class TrainingRun:
    """This process's share of a run: from the start or a checkpoint to its end."""

    def __init__(
        self,
        config: ServerConfig,
        parts: Parts,
        clock: RunClock,
        server: PolicyServer,
        learner: LearnerThread,
        *,
        clients: LocalClients | None,
        watch: Watch,
        interval_log: IntervalLog,
        episode_log: EpisodeLog,
        saver: Saver | None,
        replay_files: ReplayFiles,
        stop: StopSignal,
        recording: Recording | None = None,
    ) -> None:
        """Takes what `building.make_training_run` built; nothing runs yet. A replica without a saver saves nothing."""
        self._run = config.run
        self._parts = parts
        self._clock = clock
        self._server = server
        self._learner = learner
        self._clients = clients
        self._watch = watch
        self._interval_log = interval_log
        self._episode_log = episode_log
        self._saver = saver
        self._replay_files = replay_files
        self._stop = stop
        self._recording = recording
        self._judged = clock.cohorts.record.judged
        self._next_best_s = time.monotonic()

    def run(self) -> str:
        """Trains until a stop condition or a signal, then saves. Returns why it ended, for people.

        Raises:
            UnsavedError: what it has learnt last is not on the disk.
        """
        self._watch.start()
        try:
            reached = self._train()
            self._shut_down(reached)
            self._learner.check()
            saved = self._save(reached, last=True)
        except BaseException as error:
            self._interval_log.fail(error, self._clock.now())
            raise
        finally:
            self._watch.stop()
            self._episode_log.close()
        self._interval_log.close(reached, self._clock.now())
        if not saved:
            raise UnsavedError("the last checkpoint could not be written: the run would go on from the one before it")
        return reached or f"stopped by {self._stop.name or 'another learner'}"

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
            if not answers(self._parts.device):  # libraries of its own say so by other errors
                logger.critical("the device is lost: started again, the run goes on from its last checkpoint")
                end_process()
            self._end_after(error)
            raise

    def _end_after(self, error: BaseException) -> None:
        """Ends in order what an error ends; another one on the way costs what it concerns, and is not the cause."""
        try:
            self._shut_down(None)
        except Exception:
            logger.exception("not all of the run has ended in order")
        if not self._learner.sound or isinstance(error, DivergedError):
            return
        try:
            self._save(None, last=True)
        except Exception:
            logger.exception("what was learnt last is not saved")

    def _start(self) -> None:
        self._server.start()
        self._learner.start()
        if self._clients is not None:
            self._clients.start()
        logger.info("serving on %s", self._server.address)
        report({"serving": self._server.address, "episodes_bytes": self._episode_log.file_bytes})

    def _supervise(self) -> str | None:
        """Watches, logs and saves. Returns the stop condition that was reached, or None after a signal.

        Several learners end after the same update: until all of them know, this one goes on.
        """
        run = self._run
        next_log_s = time.monotonic()
        next_save_s = next_log_s + min(run.checkpoint_interval_s, _FIRST_SAVE_S)
        vitals = self._server.vitals.device
        while not self._is_stopped():
            time.sleep(_TICK_S)
            vitals["queued_unrolls"] = len(self._parts.source)
            self._check_alive()
            self._episode_log.take()
            state = self._clock.now()
            reached = self._clock.stop_condition(state)
            ends = reached is not None and self._clock.ends(Stop.REACHED)
            if time.monotonic() >= next_log_s or ends:
                self._log(state)
                next_log_s = time.monotonic() + run.log_interval_s
            if ends:
                return reached
            better = self._is_better(state)
            if better or time.monotonic() >= next_save_s:
                self._save(None)
                next_save_s = time.monotonic() + run.checkpoint_interval_s
        return None

    def _is_stopped(self) -> bool:
        """Whether a signal ends the run, here or, for all learners, elsewhere."""
        asked = self._stop.name is not None and self._clock.ends(Stop.ASKED)
        return asked or self._clock.is_stopped_elsewhere

    def _is_better(self, state: RunState) -> bool:
        """Whether a cohort has just been judged that is the best so far, and worth a checkpoint now."""
        verdict = self._new_verdict(state)
        saver = self._saver
        if verdict is None or saver is None or time.monotonic() < self._next_best_s or not saver.is_better(verdict):
            self._judged = state.cohort_record.judged  # too late: the policy of a later save is not the one it judged
            return False
        self._next_best_s = time.monotonic() + _BEST_INTERVAL_S
        return True

    def _new_verdict(self, state: RunState) -> Verdict | None:
        """The newest cohort, if it has been judged since the last look."""
        record = state.cohort_record
        return record.newest if record.judged > self._judged else None

    def _check_alive(self) -> None:
        """A dead part is replaced where that loses nothing, and otherwise ends the run."""
        self._server.check()
        self._watch.check()
        if self._clients is not None:
            self._clients.check()
        self._learner.check()

    def _shut_down(self, reached: str | None) -> None:
        """Local clients leave; then nothing is answered and remote ones are told; then the learner; then the files.

        Each has its turn, whatever comes of the others: what is not told to end would outlive this thread.
        """
        with ExitStack() as last_first:
            if self._recording is not None:
                last_first.callback(self._recording.finish)
            last_first.callback(self._parts.sink.finish)
            last_first.callback(self._learner.join)
            last_first.callback(self._server.stop, "finished" if reached else "restarting")
            if self._clients is not None:
                last_first.callback(self._clients.stop)
            last_first.callback(self._parts.source.close)  # or a full queue could hold inference up
            last_first.callback(self._clock.cohorts.stop)
            last_first.callback(self._server.announce_stop)

    def _save(self, reached: str | None, *, last: bool = False) -> bool:
        """Writes a checkpoint, and with the last one of this start the replay. Returns whether nothing is unsaved."""
        state = self._clock.now()
        if last and not state.has_begun:
            return True  # nothing is left of a start that failed, or was told to stop, before its first step
        saved = True
        if self._saver is not None:
            learner = self._learner.loop.snapshot()
            random, kind = self._parts.inference.random_state, self._parts.device.type
            verdict = self._new_verdict(state)
            self._judged = state.cohort_record.judged
            saved = self._saver.save(
                replace(state, finished=reached, random=random, random_device=kind, learner=learner), verdict
            )
        if last:
            self._replay_files.save(state.agent_steps)
        return saved

    def _log(self, state: RunState) -> None:
        loop, account = self._learner.loop, self._parts.sink.account
        info = self._episode_log.numbers.means()
        self._server.vitals.info.write(info)
        metrics = loop.take_metrics() | {
            **self._parts.source.metrics(),
            "optimiser_steps": loop.learner.optimiser_steps,
            "transitions_trained": loop.trained,
            "transitions_dropped": account.dropped + loop.unused,
            "unrolls_cut": account.cut_unrolls,
            **({} if self._recording is None else self._recording.metrics()),
            **{f"info/{name}": mean for name, mean in info.items()},
        }
        replicas = self._clock.reports
        cohorts, spreads = self._clock.cohorts, loop.take_spreads()
        scored, vitals = cohorts.num_present > 0, self._server.vitals
        present = {} if self._clock.tasks is None else self._clock.tasks.present
        self._interval_log.log(
            state,
            vitals,
            metrics,
            cohorts.progress,
            scored=scored,
            spreads=spreads,
            replicas=replicas,
            present=present,
        )
