"""A synchronous server with clients made by hand: real service, inference and learner; random comings and goings.

`RoundWorld` plays the clients in the thread of the test, which is the inference thread too; the learner has its own, as
always. Every client steps its groups in turn, as the real one does, and so stands still while one of them is held.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seedbed.server.algorithms.a3c import A2C
from seedbed.server.algorithms.actor_critic_options import ActorCriticOptions
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.rounds import RoundCollector, RoundFifo
from seedbed.server.inference.batching import Batcher
from seedbed.server.inference.leases import LeaseTable
from seedbed.server.inference.synchronous import SynchronousService
from seedbed.server.learning.learner import Update
from seedbed.server.learning.loop import LearnerLoop
from seedbed.server.options.network import NetworkConfig
from seedbed.server.shared.id_channel import IdChannel
from seedbed.server.shared.vitals import VitalsTable
from tests.reference.acting import MakeAlgorithm, World
from tests.reference.clock import StoppedClock

GRACE_S = 10.0
PATIENCE_S = 5.0


@dataclass
class Group:
    """One stream of a client: its lease once it is granted, and the request that is under way."""

    number: int
    stream: int
    first: int | None = None
    asks: bool = False


@dataclass
class Client:
    """One process; `frozen` ones keep their streams and do nothing."""

    name: str
    rows: int
    groups: list[Group]
    next_group: int = 0
    frozen: bool = False
    updates_seen: list[int] = field(default_factory=list)


class RoundWorld(World):
    """Clients come and go as the test says; `turn` lets all of them do what they can."""

    def __init__(
        self,
        network: NetworkConfig,
        *,
        num_slots: int = 12,
        seed: int = 0,
        max_wait_s: float | None = None,
        make: MakeAlgorithm = A2C,
        **parameters: Any,
    ) -> None:
        """Requests wait `max_wait_s` for company; None: not at all. Other parameters are those of `World`."""
        parameters = {"options": ActorCriticOptions()} | parameters
        super().__init__(network, num_slots=num_slots, seed=seed, make=make, **parameters)
        self.fifo: RoundFifo = RoundFifo(self.layout, num_slots, self.store.device)
        self.collector: RoundCollector = RoundCollector(self.store, self.fifo)
        self.now_s = 0.0
        self.service = SynchronousService(
            sink=self.collector,
            num_rows=self.layout.num_rows,
            patience_s=PATIENCE_S,
            num_envs=num_slots,
            settle_s=0.0,
            slots=self.slots,
            leases=LeaseTable(num_slots=num_slots, grace_s=GRACE_S),
            batcher=Batcher(max_rows=num_slots, max_wait_s=max_wait_s or 0.0, wait_when_idle=max_wait_s is not None),
            inference=self.inference,
            on_episode=lambda index, end, client: None,
            vitals=VitalsTable(0).device,
            clock=lambda: self.now_s,
        )
        ours, self.frontend = IdChannel.pair()
        self.service.links.adopt(0, ours)
        self.clients: list[Client] = []
        self.trained: list[TrainBatch] = []
        self.before_update: Callable[[TrainBatch], None] = lambda batch: None
        self.loop = LearnerLoop(self.learner, self.fifo, self.parameters, 0, StoppedClock(), VitalsTable(0).device)
        self._streams = itertools.count()
        self._names = itertools.count()
        self._failure: BaseException | None = None

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Runs the learner's thread, and closes everything in the end."""
        update = self.learner.update

        def watched(batch: TrainBatch, progress: float) -> Update:
            self.trained.append(batch)
            self.before_update(batch)
            return update(batch, progress)

        def run() -> None:
            try:
                self.loop.run()
            except BaseException as error:
                self._failure = error
                self.fifo.close()

        self.learner.update = watched  # type: ignore[method-assign]
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.fifo.close()
            thread.join(10)
            self.frontend.close()
            for channel in self.service.links._channels.values():
                channel.close()
        assert not thread.is_alive()
        if self._failure is not None:
            raise self._failure

    def join(self, rows: int, num_groups: int = 2) -> Client:
        """A new client connects."""
        client = Client(f"client {next(self._names)}", rows, [])
        client.groups = [Group(number, next(self._streams)) for number in range(num_groups)]
        self.clients.append(client)
        for group in client.groups:
            self._open(client, group)
        return client

    def lose(self, group: Group) -> None:
        """A connection breaks; the client does not know yet what became of its request."""
        self.frontend.send({"type": "detach", "stream": group.stream})
        group.stream = -1

    def reconnect(self, client: Client) -> None:
        """All broken connections of a client come back."""
        for group in client.groups:
            if group.stream < 0:
                group.stream = next(self._streams)
                self._open(client, group)

    def leave(self, client: Client, *, goodbye: bool) -> None:
        """A client ends, politely or not."""
        self.clients.remove(client)
        for group in client.groups:
            if goodbye and group.stream >= 0:
                self.frontend.send({"type": "goodbye", "stream": group.stream})
            if group.stream >= 0:
                self.frontend.send({"type": "detach", "stream": group.stream})

    def turn(self) -> None:
        """The service hears what there is; then every client that is not blocked sends one Steps."""
        self.service.turn(0.0)
        self.service.leases.check_valid()
        for message in self.frontend.receive():
            if isinstance(message, dict) and message["type"] == "granted":
                self._granted(message["stream"], message["lease"], message["resumed"])
        for client in self.clients:
            if not client.frozen:
                self._act(client)

    def _open(self, client: Client, group: Group) -> None:
        number = int(client.name.split()[1])
        first_index = 100 * number + group.number * client.rows
        self.frontend.send(
            {
                "type": "open",
                "stream": group.stream,
                "client_id": client.name,
                "run_id": 1,
                "group": group.number,
                "environment_indices": list(range(first_index, first_index + client.rows)),
                "assign_indices": False,
            }
        )

    def _granted(self, stream: int, first: int, resumed: bool) -> None:
        for client in self.clients:
            for group in client.groups:
                if group.stream == stream and not resumed:
                    group.first, group.asks = first, False
                    lease = self.service.leases.get(first)
                    assert lease is not None
                    for slot in range(first, first + client.rows):
                        self.holders[slot] = self._log(lease.serial, slot)

    def _log(self, serial: int, slot: int) -> int:
        """Logs go by lease and slot, for one lease has many slots here."""
        key = log_key(serial, slot)
        self.logs[key] = []
        return key

    def _act(self, client: Client) -> None:
        """Takes the answer of the group whose turn it is, if it is there, and sends its next timesteps."""
        group = client.groups[client.next_group]
        if group.first is None or group.stream < 0:
            return
        if group.asks:
            if self.slots.answered_seq[group.first] != self.slots.accepted_seq[group.first]:
                return  # held, or not yet heard
            self.note_answers(np.arange(group.first, group.first + client.rows))
        for slot in range(group.first, group.first + client.rows):
            self._send(slot)
        self.slots.accepted_seq[group.first] = len(self.logs[self.holders[group.first]])
        group.asks = True
        self.frontend.send_ids([group.first])
        client.next_group = (client.next_group + 1) % len(client.groups)

    def received(self) -> int:
        """Transitions that the service has seen: of requests that were answered, or hold an unroll's end."""
        return sum(max(0, len(log) - 1) for log in self.logs.values())


def log_key(serial: int, slot: int) -> int:
    """Of `RoundWorld.logs`."""
    return 1000 * serial + slot
