"""A policy that answers actors: frontends, slots, leases and the inference thread, started and stopped together.

It serves; what becomes of finished unrolls is its sink's business. So training and evaluation use the same one.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from seedbed.common.errors import DivergedError
from seedbed.common.logs import name_thread
from seedbed.common.plugins import without_start_directories
from seedbed.server.frontend.admission import FrontendConfig
from seedbed.server.frontend.port import ReservedPort
from seedbed.server.frontend.process import run_frontend
from seedbed.server.inference.batching import Batcher
from seedbed.server.inference.device_stream import stream_of_its_own
from seedbed.server.inference.insight import InsightWriter
from seedbed.server.inference.leases import ONE_TASK, LeaseTable
from seedbed.server.inference.policy import Inference
from seedbed.server.inference.service import InferenceService
from seedbed.server.inference.sinks import EpisodeListener, EpisodeTap, FleetListener, UnrollSink
from seedbed.server.inference.synchronous import SynchronousService
from seedbed.server.options.serving import MonitoringConfig, ServingConfig
from seedbed.server.options.task_plan import TaskPlan
from seedbed.server.shared.id_channel import IdChannel
from seedbed.server.shared.insight import Sight
from seedbed.server.shared.slots import SlotTable
from seedbed.server.shared.spawning import uninterrupted
from seedbed.server.shared.vitals import Phase, VitalsTable

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
_DRAIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a server says about itself, for people."""

    run_name: str
    version: str


class Frontends:
    """The gRPC processes. Spawn them before torch or gRPC are used in this process: a fork could not.

    Attributes:
        vitals: what they and this process have to tell about themselves.
        port: the one they share.
        sight: what they, and the dashboard, show of inference and of the fleet.
    """

    def __init__(
        self,
        config: ServingConfig,
        slots: SlotTable,
        identity: Identity,
        stall_limit_s: float = MonitoringConfig().stall_limit_s,
    ) -> None:
        """Reserves the port.

        Raises:
            PortInUseError: somebody else listens there.
            UsageError: the address is beyond loopback, unprotected, and nothing says that this is meant.
            AuthError: token or certificate cannot be used.
        """
        config.credentials.verify(config.host)
        self._slots = slots
        self.vitals = VitalsTable(config.frontends, slots.spec.num_tasks)
        device = self.vitals.device
        device["pid"], device["started_s"] = os.getpid(), time.monotonic()
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[int, SpawnProcess] = {}
        self.port = ReservedPort(config.host, config.port)
        self.sight = Sight.of(slots.num_slots)
        self._config = FrontendConfig(
            number=0,
            address=self.port.address,
            spec=slots.spec,
            num_slots=slots.num_slots,
            run_name=identity.run_name,
            server_version=identity.version,
            grace_s=config.grace_s,
            stall_limit_s=stall_limit_s,
            credentials=config.credentials,
            sight=self.sight.for_reading(),
        )

    def start(self, number: int) -> IdChannel:
        """Spawns frontend `number`, in place of an earlier one, and returns this end of its channel."""
        if number in self._processes:  # given up: gone, or it takes nothing any more
            self._processes[number].kill()
            self._processes[number].join()
        ours, theirs = IdChannel.pair()
        config = replace(self._config, number=number)
        process = self._context.Process(
            target=run_frontend,
            args=(config, self._slots, self.vitals, theirs),
            name=f"seedbed-frontend-{number}",
            daemon=True,
        )
        with without_start_directories(), uninterrupted():  # a frontend imports nothing of a user's
            process.start()
        theirs.close()
        self._processes[number] = process
        return ours

    def join(self, timeout_s: float) -> None:
        """Waits for all to leave; ends those that do not."""
        deadline_s = time.monotonic() + timeout_s
        for process in self._processes.values():
            process.join(max(0.0, deadline_s - time.monotonic()))
            if process.is_alive():
                logger.warning("%s does not leave, killing it", process.name)
                process.kill()
                process.join()
        self.port.close()


class PolicyServer:
    """Starts, watches and stops all that answers actors.

    Attributes:
        inference: the policy over all slots.
        service: the inference thread's loop.
        vitals: numbers about all of it.
        address: HOST:PORT to connect to.
    """

    def __init__(
        self,
        *,
        config: ServingConfig,
        frontends: Frontends,
        inference: Inference,
        slots: SlotTable,
        sink: UnrollSink,
        on_episode: EpisodeListener,
        device: torch.device,
        fleet: FleetListener | None = None,
        tap: EpisodeTap | None = None,
        rows_of_a_round: int | None = None,
        num_envs: int = 1,
        plan: TaskPlan = ONE_TASK,
        indices: range | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
            config: options of serving.
            frontends: the gRPC processes.
            inference: the policy over all slots.
            slots: rows that both share.
            sink: where complete unrolls go.
            on_episode: called when an episode ends.
            fleet: hears which environments are there.
            tap: reads all that passes.
            device: of inference.
            rows_of_a_round: L where acting and learning take turns; None where they do not.
            num_envs: rows that the first of these rounds waits for.
            plan: of tasks.
            indices: environment indices that are chosen for clients; None: any.
        """
        self.inference = inference
        parts: dict[str, Any] = {
            "slots": slots,
            "leases": LeaseTable(num_slots=slots.num_slots, grace_s=config.grace_s, indices=indices),
            "batcher": _make_batcher(config),
            "inference": inference,
            "sink": sink,
            "on_episode": on_episode,
            "fleet": fleet,
            "tap": tap,
            "insight": InsightWriter(frontends.sight, slots),
            "plan": plan,
            "vitals": frontends.vitals.device,
        }
        self.service = (
            InferenceService(**parts)
            if rows_of_a_round is None
            else SynchronousService(
                **parts, num_rows=rows_of_a_round, num_envs=num_envs, patience_s=config.round_patience_s
            )
        )
        self.vitals = frontends.vitals
        self._num_frontends = config.frontends
        self._frontends = frontends
        self._device = device
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self.address = frontends.port.address

    def keep(self, indices: Collection[int], clients: Collection[str]) -> None:
        """Gives these environment indices to these clients alone; before `start`."""
        self.service.leases.keep(indices, clients)

    def start(self) -> None:
        """Starts everything and returns when clients can connect."""
        for number in range(self._num_frontends):
            self.service.links.adopt(number, self._frontends.start(number))
        self._thread.start()
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while len(self.service.ready_frontends) < self._num_frontends:
            self.check()
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"the frontends did not start within {_START_TIMEOUT_S:g} s")
            time.sleep(0.01)
        self.check()
        self.vitals.device["phase"] = Phase.SERVING

    def check(self) -> None:
        """Raises what ended the inference thread, if anything did, and replaces frontends that died.

        The main thread calls this again and again, and so shows that it turns.
        """
        self.vitals.device["tick_s"] = time.monotonic()
        if self._failure is not None:
            raise self._failure
        while self.service.links.lost and not self.service.stopping:
            number = self.service.links.lost.popleft()
            logger.warning("frontend %d is gone, starting another: its clients reconnect", number)
            self.vitals.device.add("frontend_restarts")
            self.service.links.adopt(number, self._frontends.start(number))

    def fail(self) -> None:
        """Answers nothing more and says why: what it would answer from has failed."""
        self.vitals.device["phase"] = Phase.FAILED
        self.service.stop()

    def announce_stop(self) -> None:
        """Says that it is not ready any more, while it still answers."""
        self.vitals.device["phase"] = Phase.DRAINING

    def stop(self, reason: str) -> None:
        """Answers nothing more, asks all clients to leave and ends the frontends.

        Args:
            reason: "finished" or "restarting".
        """
        self.announce_stop()
        self.service.stop()
        if self._thread.is_alive():
            self.vitals.device["joined_s"] = time.monotonic()
            self._thread.join()
            self.vitals.device["joined_s"] = 0
        self.service.end_all()
        self.service.links.broadcast({"type": "stop", "reason": reason, "retry_after_ms": 1000, "grace_s": _DRAIN_S})
        self._frontends.join(_DRAIN_S + 5)
        self.service.links.close()

    def _run(self) -> None:
        name_thread("inference")
        try:
            with stream_of_its_own(self._device):
                self.inference.record_graphs()
                self.service.run()
        except BaseException as error:
            if not isinstance(error, DivergedError):  # that is no defect of ours, and the run ends with its sentence
                logger.exception("inference failed")
            self.fail()
            self._failure = error


def _make_batcher(config: ServingConfig) -> Batcher:
    return Batcher(
        max_rows=config.max_inference_batch,
        max_wait_s=config.max_wait_ms / 1000,
        wait_when_idle=config.wait_when_idle,
        settle_s=config.settle_s,
    )
