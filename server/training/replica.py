"""A replica: its place in a run, what it learns with the others, and how all of them begin equal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from seedbed.common.errors import PeerLostError, UsageError
from seedbed.common.options import override
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.registry import ALGORITHMS, find_algorithm
from seedbed.server.learning.exchange.all_reduce import AllReduce
from seedbed.server.learning.exchange.alone import Alone
from seedbed.server.learning.exchange.gossip import Gossip
from seedbed.server.learning.exchange.interface import Exchange
from seedbed.server.learning.exchange.link import Link
from seedbed.server.learning.exchange.parameter_server import ParameterServer
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.state import RunState
from seedbed.server.run.state_tree import flatten_state, unflatten_state
from seedbed.server.training.assemble import Parts
from seedbed.server.training.checksum import Checksums
from seedbed.server.training.place import Place
from seedbed.server.training.shared_clock import SharedClock
from seedbed.server.training.stop_signal import StopSignal

JOIN_S = 600.0
"""How long the others wait for the first replica, which describes the environment meanwhile."""

_OPEN = "seedbed/open"
_POLL_S = 0.1


@dataclass(slots=True)
class Replica:
    """Among others or alone.

    Attributes:
        place: of this process.
        link: to the others; None: there are none.
        exchange: of its learner.
        has_own_state: what this learner has learnt is another thing than what the first has, and restored already.
    """

    place: Place = field(default_factory=Place)
    link: Link | None = None
    exchange: Exchange = field(default_factory=Alone)
    has_own_state: bool = False

    @property
    def saves(self) -> bool:
        """Whether its learner has what no other one saves."""
        return self.is_first or self.exchange.mixes

    @property
    def is_first(self) -> bool:
        """It writes the run."""
        return self.place.rank == 0

    def wait_for_all(self) -> None:
        """Returns when all have come here.

        Raises:
            PeerLostError: one will not.
        """
        if self.link is not None:
            self.link.wait_for_all()

    def begin_equal(self, parts: Parts) -> None:
        """All learners get the whole state of the first: parameters, optimisers, target and counters.

        Whichever of them a replica restored or made by itself would differ after the first restart.
        """
        if self.link is None:
            return
        self.link.reach_devices(parts.device)
        state = share(self.link, parts.learner.get_state() if self.is_first else None)
        if not self.is_first and not self.has_own_state:
            parts.learner.set_state(state)
        parts.parameters.publish(parts.learner.network, parts.learner.num_updates)

    def attend(self, parts: Parts, clock: SharedClock, vitals: Any) -> None:
        """Says from now on at meetings how this replica does."""
        if isinstance(self.exchange, Gossip):
            self.exchange.meetings.floor = clock
            self.exchange.prepare(parts.learner.mixture)
        if isinstance(self.exchange, ParameterServer):
            self.exchange.meetings.floor = clock
            self.exchange.prepare(list(parts.learner.learnt.parameters()))
        if isinstance(self.exchange, AllReduce):
            self.exchange.meetings.floor = clock
            self.exchange.meetings.checksum = Checksums(parts.learner).newest
            if parts.regime.on_policy:  # a round that has begun is waited for
                self.exchange.waits = lambda: vitals["live_rows"] > 0


def make_replica(place: Place, link: Link | None, config: ServerConfig, state: RunState) -> Replica:
    """With the exchange that the options ask for."""
    if link is None:
        return Replica(place)
    options = config.replicas
    if options.exchange == "gossip":
        return Replica(place, link, Gossip(link, options.gossip_max_age), has_own_state=state.learner is not None)
    if options.exchange == "parameter_server":
        served = ParameterServer(link, max_age=options.gradient_max_age, outliers=options.gradient_outliers)
        return Replica(place, link, served)
    return Replica(place, link, AllReduce(link, options.replica_patience_s))


def check_exchange(place: Place, config: ServerConfig) -> None:
    """Refuses an exchange that so many learners, or an algorithm, cannot learn with.

    Raises:
        UsageError: they cannot.
    """
    exchange = config.replicas.exchange
    config.replicas.check_world(place.world)
    if exchange == "all_reduce":
        return
    able = [name for name in ALGORITHMS if _can(find_algorithm(name), exchange)]
    if not _can(find_algorithm(config.algorithm), exchange):
        raise UsageError(
            f"expected --exchange all_reduce with --algorithm {config.algorithm}, got {exchange}: {_WHY[exchange]}; "
            f"those that can are {', '.join(able)}"
        )
    if exchange == "parameter_server" and config.network.normalise_observations == "on":
        raise UsageError(
            "expected --normalise-observations off with --exchange parameter_server: moments have no gradient to send"
        )


_WHY = {
    "gossip": "a replay or a target network would remember parameters from before a mix",
    "parameter_server": "its parameters must not change with others' gradients meanwhile, or are more than one group",
}


def _can(algorithm: type[Algorithm], exchange: str) -> bool:
    return algorithm.gossips if exchange == "gossip" else algorithm.serves


def own_device(place: Place, config: ServerConfig) -> ServerConfig:
    """With the CUDA device of this replica's number, where there are any.

    Raises:
        UsageError: there are fewer than replicas on this machine.
    """
    name, count = config.run.device, torch.cuda.device_count() if torch.cuda.is_available() else 0
    if place.is_alone or name == "cpu" or not count:
        return config
    if ":" in name or count < place.local_world:
        raise UsageError(
            f"expected a CUDA device for each of {place.local_world} learners here, torch sees {count} and --device is "
            f"{name}: leave --device out, or say cpu"
        )
    return override(config, {"run.device": f"cuda:{place.local_rank}"})


def open_store(place: Place) -> dist.Store:
    """What the replicas find one another through.

    Raises:
        PeerLostError: nobody answers there.
    """
    if place.store is not None:
        return dist.FileStore(str(place.store), place.world)
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=JOIN_S)))
    except (RuntimeError, ValueError) as error:
        raise PeerLostError(f"expected a store at MASTER_ADDR:MASTER_PORT, as torchrun has one: {error}") from error
    return store


def open_to_others(store: dist.Store, go_on: bool) -> None:
    """The first replica has opened the run, or has nothing to do, and then nobody has."""
    store.set(_OPEN, "go on" if go_on else "end")


def wait_for_first(store: dist.Store, stop: StopSignal) -> bool:
    """Whether the first replica has opened the run; it says so.

    Raises:
        PeerLostError: it does not.
    """
    deadline_s = time.monotonic() + JOIN_S
    while not store.check([_OPEN]):
        if stop.name is not None:
            return False
        if time.monotonic() > deadline_s:
            raise PeerLostError(f"expected the first learner to open the run within {JOIN_S:g} s")
        time.sleep(_POLL_S)
    return bool(store.get(_OPEN) == b"go on")


def share(link: Link, state: Any) -> Any:
    """The first learner's nested state of tensors and JSON, on all of them; no pickle.

    Args:
        link: to the others.
        state: what is shared; of no account elsewhere.
    """
    tensors, structure = flatten_state("", state) if link.rank == 0 else ({}, None)
    layout = {name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in tensors.items()}
    head = json.dumps({"structure": structure, "layout": layout}).encode()
    size = torch.tensor([len(head), sum(map(_size, tensors.values()))])
    link.broadcast(size)
    text = torch.frombuffer(bytearray(head), dtype=torch.uint8) if link.rank == 0 else _bytes(int(size[0]))
    link.broadcast(text)
    said = json.loads(bytes(text.numpy()))
    flat = torch.cat([_flat(tensor) for tensor in tensors.values()]) if tensors else _bytes(int(size[1]))
    if len(flat):
        link.broadcast(flat)
    return unflatten_state(_taken_apart(flat, said["layout"]), said["structure"])


def _taken_apart(flat: Tensor, layout: Mapping[str, Any]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    start = 0
    for name, (dtype, shape) in layout.items():
        like = torch.empty(shape, dtype=getattr(torch, dtype))
        like.reshape(-1).view(torch.uint8).copy_(flat[start : start + _size(like)])
        start += _size(like)
        found[name] = like
    return found


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def _bytes(size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.uint8)
