"""Link of a learner to the others of its run: three collectives, over gloo on hosts and NCCL between CUDA devices.

Process groups are made from a store that all learners reach, and not by `init_process_group`: nothing of them is global
to the process, gloo listens at the address that it is given, and several learners fit into one test.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

from seedbed.common.errors import PeerLostError

TIMEOUT_S = 60.0
"""Of a collective. Nobody waits longer for another than a look-up and one optimiser step."""

PATIENCE = 3.0
"""Times the longest absence of any learner so far, which a collective waits at least: what took long once may do so
again."""

_MAIL_TIMEOUT = timedelta(days=30)  # a neighbour that has nothing to say is not dead

_LOOPBACK = "127.0.0.1"


class Made(NamedTuple):
    """How a link was made, see `Link`."""

    store: dist.Store
    loopback: bool
    timeout_s: float


class Link:
    """Used by one thread at a time, in the same order by all learners.

    Attributes:
        rank, world: of this learner, and how many there are.
        wait_s: time in collectives so far.
        made: how.
        away_s: the longest time so far from the end of one to the beginning of the next, since `begin`.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        world: int,
        *,
        loopback: bool = True,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Connects to all others; waits for them.

        Args:
            store: that all of them reach.
            rank, world: of this learner, and how many there are.
            loopback: all are on this machine: nothing listens beyond it. Else at the address of this host's name, or of
                the interface that GLOO_SOCKET_IFNAME names.
            timeout_s: of each collective, the least.

        Raises:
            PeerLostError: one of them has not come.
        """
        self.rank, self.world = rank, world
        self.wait_s = self.away_s = 0.0
        self._left_s: float | None = None  # the newest collective
        self.made = Made(store, loopback, timeout_s)
        self._timeout = timedelta(seconds=timeout_s)
        with self._watched():
            self._hosts: Any = _gloo(dist.PrefixStore("gloo", store), rank, world, self._timeout, loopback)
        self._devices: Any = self._hosts

    def reach_devices(self, device: torch.device) -> None:
        """Sums tensors of CUDA devices from now on by NCCL, each learner's on its own device."""
        if device.type == "cuda":
            with self._watched():
                store = dist.PrefixStore("nccl", self.made.store)
                self._devices = _nccl(store, self.rank, self.world, self._timeout)

    def begin(self) -> None:
        """From now on absences are measured: until all are built they say nothing of what an update takes."""
        if self._left_s is None:
            self._left_s = time.monotonic()

    def bear(self, away_s: float) -> None:
        """Waits in collectives from now on for anybody who is away as long as somebody has been, and longer."""
        timeout = timedelta(seconds=PATIENCE * away_s)
        if timeout > self._timeout:
            self._timeout = timeout
            for group in (self._hosts, self._devices):
                group.set_timeout(timeout)

    def sum(self, buffer: Tensor) -> None:
        """Adds up the buffers of all learners, in place, on their devices; the same bits for all."""
        with self._watched():
            self._devices.allreduce([buffer]).wait()

    def gather(self, row: Tensor) -> list[Tensor]:
        """The rows of all learners, by rank; on hosts."""
        rows = [torch.empty_like(row) for _ in range(self.world)]
        with self._watched():
            self._hosts.allgather([rows], [row]).wait()
        return rows

    def broadcast(self, buffer: Tensor) -> None:
        """Replaces what is in it by what the first learner has; on hosts."""
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        with self._watched():
            self._hosts.broadcast([buffer], options).wait()

    def mail(self) -> Mail:
        """Connections for messages from one learner to another, made by all of them at once."""
        with self._watched():
            store = dist.PrefixStore("mail", self.made.store)
            return Mail(_gloo(store, self.rank, self.world, _MAIL_TIMEOUT, self.made.loopback))

    def wait_for_all(self) -> None:
        """Returns when all learners have come here."""
        self.gather(torch.zeros(1))

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        begun_s = time.monotonic()
        if self._left_s is not None:
            self.away_s = max(self.away_s, begun_s - self._left_s)
        try:
            yield
        except RuntimeError as error:
            raise _lost(error) from error
        finally:
            ended_s = time.monotonic()
            self.wait_s += ended_s - begun_s
            if self._left_s is not None:
                self._left_s = ended_s


class Mail:
    """Messages between two learners. One thread may send and another receive; nobody else uses it meanwhile."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def send(self, letter: Tensor, to: int, tag: int) -> None:
        """Returns when it is on its way."""
        try:
            self._group.send([letter], to, tag).wait()
        except RuntimeError as error:
            raise _lost(error) from error

    def receive(self, letter: Tensor, sender: int, tag: int) -> None:
        """Waits for one of this size, as long as it takes."""
        try:
            self._group.recv([letter], sender, tag).wait()
        except RuntimeError as error:
            raise _lost(error) from error

    def receive_any(self, letter: Tensor, tag: int) -> int:
        """Waits for one of this size from anybody, as long as it takes. Returns who has sent it."""
        try:
            work = self._group.recv_anysource([letter], tag)
            work.wait()
            return int(work._source_rank())
        except RuntimeError as error:
            raise _lost(error) from error


def _lost(error: RuntimeError) -> PeerLostError:
    return PeerLostError(f"expected all learners of the run, one of them is gone ({_gist(error)})")


def _gist(error: RuntimeError) -> str:
    """The first sentence, without the place in gloo's sources."""
    said = str(error).partition("\n")[0]
    return said.partition("] ")[2].partition(". ")[0][:200] if said.startswith("[/") else said[:200]


def _gloo(store: dist.Store, rank: int, world: int, timeout: timedelta, loopback: bool) -> Any:
    if not loopback:
        return dist.ProcessGroupGloo(store, rank, world, timeout)
    group: Any = dist.ProcessGroupGloo
    options = group._Options()
    options._devices = [dist.ProcessGroupGloo.create_device(hostname=_LOOPBACK)]
    options._timeout = timeout
    return dist.ProcessGroupGloo(store, rank, world, options)


def _nccl(store: dist.Store, rank: int, world: int, timeout: timedelta) -> Any:
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = timeout
    return dist.ProcessGroupNCCL(store, rank, world, options)
