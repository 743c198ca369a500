"""Joining of a run that the first replica has opened: the others learn from it what is trained, and where it stands."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import distributed as dist

from seedbed.common.options import to_json
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.learning.exchange.link import Link
from seedbed.server.options.replicas import ReplicaConfig
from seedbed.server.run.checkpoint import load_newest
from seedbed.server.run.directory import RunDirectory, RunFile
from seedbed.server.run.state import RunState
from seedbed.server.training.command_line import Given
from seedbed.server.training.opening import OpenedRun, lock_existing
from seedbed.server.training.place import Place
from seedbed.server.training.replica import open_store, share, wait_for_first
from seedbed.server.training.resolve import admit, config_of
from seedbed.server.training.stop_signal import StopSignal


def lead(place: Place, store: dist.Store, opened: OpenedRun, state: RunState) -> Link:
    """The first replica connects to the others, and tells them what it has opened."""
    link = _link(place, store, opened.config.replicas)
    version = "" if opened.before is None else opened.before.version
    share(
        link,
        {
            "config": to_json(opened.config),
            "spec": opened.spec.to_json(),
            "version": version,
            "run_dir": str(opened.directory.path.absolute()),
            "goes_on": opened.before is not None,
            "state": _counters(state),
        },
    )
    return link


def join(place: Place, given: Given, stop: StopSignal, held: ExitStack) -> tuple[OpenedRun, RunState, Link] | None:
    """Another replica does the same from its side; None: there is nothing to do.

    Args:
        place: of this replica.
        given: its command line: which modules may be imported.
        stop: ends the wait for the first one.
        held: keeps this replica's folder locked.

    Raises:
        PeerLostError: the first replica does not come.
        SeedbedError: what it has opened cannot be trained here.
    """
    store = open_store(place)
    if not wait_for_first(store, stop):
        return None
    link = _link(place, store, given.replicas)
    said = share(link, None)
    spec, run_dir = EnvironmentSpec.from_json(said["spec"]), Path(said["run_dir"])
    run = RunFile(said["config"], spec, said["version"])
    config = place.own(config_of(run, given.trust), run_dir)
    admit(config, spec, given.trust)
    directory = RunDirectory(place.folder_of(run_dir))
    lock_existing(directory, stop, held)
    opened = OpenedRun(config, spec, directory, run if said["goes_on"] else None)
    return opened, _own(RunState(**said["state"]), opened), link


def _link(place: Place, store: dist.Store, options: ReplicaConfig) -> Link:
    loopback = place.world == place.local_world
    return Link(store, place.rank, place.world, loopback=loopback, timeout_s=options.replica_timeout_s)


def _own(state: RunState, opened: OpenedRun) -> RunState:
    """Where parameters differ from one learner to the next, with those that this one has saved."""
    if opened.config.replicas.exchange != "gossip" or opened.before is None:
        return state
    checkpoint = load_newest(opened.directory.checkpoints)
    if checkpoint is None:  # there were fewer learners
        return state
    return replace(state, learner=RunState.from_checkpoint(checkpoint).learner)


def _counters(state: RunState) -> dict[str, Any]:
    """Where the run stands, without tensors: learners get theirs when all of them are built."""
    kept = replace(state, random=None, learner=None)
    return {name: getattr(kept, name) for name in RunState.__dataclass_fields__}
