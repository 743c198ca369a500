"""Builds a training run: what acts and learns, server, clients, watchers, records and files; nothing runs yet."""

from __future__ import annotations

import os
from contextlib import ExitStack
from importlib.metadata import version

from seedbed.common.plugins import NOTHING_TYPED, Trust
from seedbed.server.inference.policy_server import Frontends, Identity, PolicyServer
from seedbed.server.learning.loop import LearnerLoop
from seedbed.server.learning.thread import LearnerThread
from seedbed.server.monitoring.progress import Progress
from seedbed.server.monitoring.watch import make_watch
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.saving import Saver
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import facts_of
from seedbed.server.shared.vitals import Vitals
from seedbed.server.training.assemble import Parts, assemble
from seedbed.server.training.insight import make_insight
from seedbed.server.training.introduction import introduce
from seedbed.server.training.local_clients import LocalClients
from seedbed.server.training.logs import make_episode_log, make_interval_log
from seedbed.server.training.opening import OpenedRun
from seedbed.server.training.place import Place
from seedbed.server.training.recorded_data import Recording, make_recording
from seedbed.server.training.replica import Replica, own_device
from seedbed.server.training.restoring import restore_replay, weights_of_another
from seedbed.server.training.run import TrainingRun
from seedbed.server.training.run_clock import RunClock
from seedbed.server.training.shared_clock import SharedClock
from seedbed.server.training.stop_signal import StopSignal

_THREADS_THAT_FEED = 3


def make_training_run(
    opened: OpenedRun,
    state: RunState,
    stop: StopSignal,
    *,
    local: bool,
    progress: Progress,
    held: ExitStack,
    trust: Trust = NOTHING_TYPED,
    replica: Replica | None = None,
) -> TrainingRun:
    """Builds a run, begins it in its directory, and restores it; nothing runs yet.

    Args:
        opened: what was asked for.
        state: where the run stands; a fresh one for a new run.
        stop: says when somebody asks to finish.
        local: start environment clients on this machine.
        progress: shows the run to a person.
        trust: whether local clients may import the environment's module.
        held: keeps the run's directory locked until it is closed.
        replica: of several; None: there is one.

    Raises:
        SeedbedError: a part could not be built.
    """
    config, spec, directory = opened.config, opened.spec, opened.directory
    replica = replica or Replica()
    place = replica.place
    parts = _make_parts(opened, state, replica)
    identity = Identity(run_name=place.run_of(directory.path).name, version=version("seedbed"))
    frontends = Frontends(config.serving, parts.slots, identity, config.monitoring.stall_limit_s)
    vitals = frontends.vitals.device
    clock = _make_clock(config, state, parts, vitals, replica)
    insight = make_insight(opened, state, parts, frontends.vitals, frontends.sight, identity.version, local=local)
    recording = make_recording(config, spec, parts.slots, identity.run_name, place.rank)
    server = _make_server(config, parts, frontends, clock, place.indices, recording)
    learner = _make_learner(config, parts, server, clock, vitals)
    clients = _make_clients(config, state, parts, server, place, trust) if local else None
    rank = None if place.is_alone else place.rank
    watch = make_watch(config, spec, frontends.vitals, identity.version, insight.dashboard, replica=rank)
    _begin(opened, held, replica, parts)
    address = None if local else server.address
    progress.introduce(_introduction(opened, parts, place, address, insight.introduction))
    return TrainingRun(
        config,
        parts,
        clock,
        server,
        learner,
        clients=clients,
        watch=watch,
        interval_log=make_interval_log(
            opened, state, progress, trust, waiting_for=address, warns=replica.is_first, learners=place.learners
        ),
        episode_log=make_episode_log(opened, state, clock.episodes),
        saver=Saver(directory.checkpoints, config.run.keep, state, vitals) if replica.saves else None,
        replay_files=restore_replay(config, parts, directory, state),
        stop=stop,
        recording=recording,
    )


def _make_parts(opened: OpenedRun, state: RunState, replica: Replica) -> Parts:
    """What acts and learns; of several replicas each has a device, a seed and environments of its own."""
    place = replica.place
    return assemble(
        own_device(place, place.seeded(opened.config, state.agent_steps)),
        opened.spec,
        state,
        weights=weights_of_another(opened),
        exchange=replica.exchange,
        first_index=place.first_index,
    )


def _introduction(
    opened: OpenedRun, parts: Parts, place: Place, address: str | None, dashboard: str | None
) -> list[str]:
    """What a start says of the run."""
    num_parameters = sum(parameter.numel() for parameter in parts.learner.learnt.parameters())
    device = str(parts.device)
    places = {"address": address, "dashboard": dashboard}
    return introduce(opened.config, opened.spec, device, num_parameters, world=place.world, **places)


def _begin(opened: OpenedRun, held: ExitStack, replica: Replica, parts: Parts) -> None:
    """The first replica makes the run's directory, and the others theirs below it: all that can fail has not failed.

    From then on all of them have the first one's parameters.
    """
    if replica.is_first:
        opened.begin(held)
    replica.wait_for_all()
    if not replica.is_first:
        opened.begin(held)
    replica.begin_equal(parts)


def _make_clock(config: ServerConfig, state: RunState, parts: Parts, vitals: Vitals, replica: Replica) -> RunClock:
    facts = facts_of(config, parts.slots.spec)
    if replica.link is None:
        return RunClock(config, state, parts, vitals, facts)
    clock = SharedClock(config, state, parts, vitals, replica.place, facts)
    replica.attend(parts, clock, vitals)
    return clock


def _make_server(
    config: ServerConfig,
    parts: Parts,
    frontends: Frontends,
    clock: RunClock,
    indices: range | None,
    recording: Recording | None,
) -> PolicyServer:
    return PolicyServer(
        config=config.serving,
        frontends=frontends,
        inference=parts.inference,
        slots=parts.slots,
        sink=parts.sink,
        on_episode=clock.on_episode,
        fleet=clock,
        tap=None if recording is None else recording.recorder,
        device=parts.device,
        rows_of_a_round=parts.rows_of_a_round,
        num_envs=config.fleet.num_envs,
        plan=config.tasks.plan,
        indices=indices,
    )


def _make_learner(
    config: ServerConfig, parts: Parts, server: PolicyServer, clock: RunClock, vitals: Vitals
) -> LearnerThread:
    """The learner's thread; where it fails, nobody waits for it any more."""
    loop = LearnerLoop(
        parts.learner,
        parts.source,
        parts.parameters,
        parts.algorithm.batch_size,
        clock,
        vitals,
        config.learning.publish_every,
    )

    def on_failure() -> None:
        server.fail()
        parts.source.close()

    return LearnerThread(loop, config.monitoring.max_lost_updates, on_failure)


def _make_clients(
    config: ServerConfig, state: RunState, parts: Parts, server: PolicyServer, place: Place, trust: Trust
) -> LocalClients:
    """Local clients. With a GPU three threads feed it, inference, learner and frontend: clients get the other cores."""
    on_device = parts.device.type != "cpu"
    spare = max(1, (os.cpu_count() or 1) - _THREADS_THAT_FEED) if on_device else None
    clients = LocalClients(
        config,
        server.address,
        yielding=parts.regime.clients_yield or on_device,
        trust=trust,
        num_clients=place.num_clients or spare,
        first_index=place.first_index,
        agent_steps=state.agent_steps,
    )
    # Somebody else could take their places while they are away, until the run gave up.
    server.keep(clients.indices, clients.names)
    return clients
