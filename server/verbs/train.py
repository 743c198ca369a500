"""`seedbed train` and `seedbed server`: starts or resumes the run in a directory, and trains it to its end."""

from __future__ import annotations

import gc
import logging
import os
import sys
from contextlib import ExitStack

import torch

from seedbed.common.errors import DeviceMemoryError, PeerLostError, SeedbedError, UnsavedError
from seedbed.common.logs import LEVEL_VARIABLE, end_without_waiting, setup_logging
from seedbed.common.plugins import Trust, check_trusted
from seedbed.server.learning.exchange.link import Link
from seedbed.server.monitoring.next_commands import continuation, verb_of
from seedbed.server.monitoring.progress import NoProgress, Progress, TolerantProgress, make_progress
from seedbed.server.run.checkpoint import load_newest
from seedbed.server.run.resuming import remarks
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import facts_of
from seedbed.server.shared.allocator import keep_freed_memory
from seedbed.server.training.building import make_training_run
from seedbed.server.training.command_line import Given
from seedbed.server.training.dry_run import describe_dry_run
from seedbed.server.training.joining import join, lead
from seedbed.server.training.local_clients import plan_clients
from seedbed.server.training.opening import OpenedRun, Stopped, open_run
from seedbed.server.training.place import Place
from seedbed.server.training.replica import Replica, check_exchange, make_replica, open_store, open_to_others
from seedbed.server.training.resolve import config_of, omitted_in
from seedbed.server.training.stop_signal import StopSignal

logger = logging.getLogger(__name__)


def train(given: Given, stop: StopSignal, *, local: bool, place: Place | None = None) -> int:
    """See the module.

    Args:
        given: the command line.
        stop: says when somebody asks to finish.
        local: start environment clients on this machine.
        place: among several replicas; None: there is one.

    Returns:
        The exit code.

    Raises:
        SeedbedError: it could not start, or ended early.
    """
    place = place or Place()
    setup_logging("server" if place.is_alone else f"server {place.rank}")
    keep_freed_memory()
    with ExitStack() as held:
        try:
            begun = _open(given, stop, held, place, local=local) if place.rank == 0 else join(place, given, stop, held)
        except Stopped:
            return 0
        except PeerLostError:
            if stop.name is None:
                raise
            logger.info("stopped before all learners had come together")
            return 0
        if begun is None:
            return 0
        opened, state, link = begun
        if link is not None:  # its threads, and torch's, may wait for another learner for as long as this process lives
            end_without_waiting()
        replica = make_replica(place, link, opened.config, state)
        return _train(opened, state, replica, given.trust, stop, held, local=local)


def _open(
    given: Given, stop: StopSignal, held: ExitStack, place: Place, *, local: bool
) -> tuple[OpenedRun, RunState, Link | None] | None:
    """Opens the run, and lets the other replicas know; None: there is nothing to do."""
    store = None if place.is_alone else open_store(place)
    go_on = False
    try:
        begun = _open_run(given, stop, held, place, local=local)
        if begun is not None:
            check_exchange(place, begun[0].config)
            go_on = store is None or stop.name is None  # the others have gone already
    finally:
        if store is not None:
            open_to_others(store, go_on)
    if begun is None or not go_on:
        return None
    opened, state = begun
    return opened, state, None if store is None else lead(place, store, opened, state)


def _open_run(
    given: Given, stop: StopSignal, held: ExitStack, place: Place, *, local: bool
) -> tuple[OpenedRun, RunState] | None:
    opened = open_run(given, stop, None if given.dry_run else held)
    config, directory = opened.config, opened.directory
    if local:  # before anything is written
        for share in plan_clients(config):
            check_trusted("--env", share.environment.env, given.trust)
    if given.dry_run:
        check_exchange(place, config)
        print(describe_dry_run(opened, place.world))
        return None
    checkpoint = None if opened.before is None else load_newest(directory.checkpoints)
    state = RunState() if checkpoint is None else RunState.from_checkpoint(checkpoint)
    facts = facts_of(config, opened.spec)
    if (reached := state.stop_condition(config.run, facts, config.tasks.target_score)) is not None:
        print(f"nothing to do: the run in {directory.path} is finished ({reached}; {state.describe()})")
        verb = verb_of(local=local, learners=place.learners)
        print(f"to go on: {continuation(config, verb, reached, state.agent_steps)}")
        print("to begin anew: the same command with another --run-dir")
        return None
    return opened, state


def _train(
    opened: OpenedRun,
    state: RunState,
    replica: Replica,
    trust: Trust,
    stop: StopSignal,
    held: ExitStack,
    *,
    local: bool,
) -> int:
    directory = opened.directory
    progress: Progress = TolerantProgress(make_progress()) if replica.is_first else NoProgress()
    if sys.stderr.isatty():  # lines that other processes write would tear the live table
        os.environ.setdefault(LEVEL_VARIABLE, "warning")
    early = "the run did not start"
    try:
        run = make_training_run(
            opened, state, stop, local=local, progress=progress, held=held, trust=trust, replica=replica
        )
        _say_how(opened, state, replica)
        gc.freeze()  # it all stays: no collection, which stops every thread, need look at it again, nor the very end
        early = "the run has ended early"
        run.run()
    except UnsavedError:
        raise  # it has come to its end, and has said so
    except (SeedbedError, MemoryError, RuntimeError) as error:
        if stop.name is not None and not replica.is_first and not directory.path.exists():
            return 0  # the first learner has ended before anything began, and has removed the run
        told = error if isinstance(error, SeedbedError) else out_of_memory(error)
        if told is None:
            raise
        progress.close(early)
        raise told from (None if told is error else error)
    finally:
        if opened.before is None and directory.is_locked and not directory.has_run:
            directory.forget()
    return 0


def out_of_memory(error: MemoryError | RuntimeError) -> DeviceMemoryError | None:
    """What to tell of an error that comes of too little memory, on a device or on this machine; None: it does not."""
    there = isinstance(error, torch.OutOfMemoryError)
    if not there and not isinstance(error, MemoryError) and "DefaultCPUAllocator" not in str(error):
        return None
    less = "--batch-size, --unroll-length, --num-envs, --core-size, --max-inference-batch or replay"
    advice = f"a smaller {less}{' (--replay-device cpu)' if there else ''} needs less"
    whose = "the device" if there else "this machine"
    return DeviceMemoryError(f"{whose} has no memory left: {advice} ({' '.join(str(error).split())[:300]})")


def _say_how(opened: OpenedRun, state: RunState, replica: Replica) -> None:
    """Whether a run is new, and what has changed since its last start."""
    path, before = opened.directory.path, opened.before
    if before is None:
        logger.info("new run in %s", path)
        return
    for remark in (
        () if not replica.is_first else remarks(config_of(before), opened.config, omitted_in(before), before.version)
    ):
        logger.warning("%s", remark)
    if not state.has_begun:
        logger.warning("no checkpoint of the run is in %s: it begins anew", opened.directory.checkpoints)
    logger.info("resuming %s at %s", path, state.describe())
