"""A CUDA device made of CPU tensors: it refuses mixed devices, counts launches and waits of hosts, and finds races.

Tensors "on cuda:0" wrap CPU tensors with the real values, see `device_dispatch`. The streams, events and graphs of
`torch.cuda` are replaced by ones that only keep vector clocks, see `device_clocks`. Everything is done at once, in the
order in which Python asks for it; whether a device could have done it in another order is what the clocks tell.

There is one thread: threads of the program are *hosts* that take turns, see `Device.host`. Locks and conditions of the
modules that are named carry clocks from one host to the next.

It has no kernels, no allocator and no time. What it says of order holds for real devices; figures are counts alone.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch

from tests.reference.device_clocks import Clocks, Footprints, Race
from tests.reference.device_operations import place
from tests.reference.device_streams import CUDA, Condition, Event, Lock, Stream

__all__ = ("CUDA", "Device", "Stream", "place", "simulated_device")


class Device:
    """The device, and what was seen.

    Attributes:
        launches: kernels and copies, by phase.
        waits: times that a host waited for its stream, by (phase, place).
        races: how often each was seen.
        faults: what a real device refuses, and dtypes that it is slow with; (what, place).
        captures: recorded graphs.
        slow: nothing is done before a host waits for it; else all is when it asks.
    """

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.launches: Counter[str] = Counter()
        self.operations: Counter[tuple[str, str, str]] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.races: Counter[Race] = Counter()
        self.faults: Counter[tuple[str, str]] = Counter()
        self.captures = 0
        self.slow = False
        self.phase = "-"
        self.default_stream = Stream(self, "default")
        self.footprints: dict[int, Footprints] = {}
        self.pinned: set[int] = set()
        self.kept: list[torch.Tensor] = []  # memory that is never given back, so that no other takes its address
        self.tape: list[Any] | None = None  # of the graph that is being recorded
        self.generators: set[int] = set()  # that it may draw from
        self._hosts: dict[str, int] = {}
        self._streams: dict[str, Stream] = {}
        self._turns: dict[str, Callable[[], None]] = {}
        self._host = "main"

    # Hosts

    @property
    def actor(self) -> int:
        """The host whose turn it is."""
        if self._host not in self._hosts:
            self._hosts[self._host] = self.clocks.add(f"host {self._host}")
        return self._hosts[self._host]

    @contextmanager
    def host(self, name: str) -> Iterator[None]:
        """What is called within is done by this thread of the program."""
        before, self._host = self._host, name
        try:
            yield
        finally:
            self._host = before

    def start(self, name: str) -> None:
        """A thread is started: it knows what the one that starts it knows."""
        known = self.clocks.snapshot(self.actor)
        with self.host(name):
            self.clocks.learn(self.actor, known)

    def join(self, name: str) -> None:
        """A thread has ended, and this one knows."""
        with self.host(name):
            other = self.actor
        self.clocks.follow(self.actor, other)

    def when_waiting(self, name: str, turn: Callable[[], None]) -> None:
        """What another thread does while this one waits for a condition."""
        self._turns[name] = turn

    def give_way(self) -> bool:
        """Lets the other threads have their turns; whether there was one."""
        others = [(name, turn) for name, turn in self._turns.items() if name != self._host]
        turns, self._turns = self._turns, {}
        for name, turn in others:
            with self.host(name):
                turn()
        self._turns = turns
        return bool(others)

    # Streams

    @property
    def stream(self) -> Stream:
        """The current one of this host."""
        return self._streams.get(self._host, self.default_stream)

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """As `torch.cuda.stream`."""
        host, before = self._host, self.stream
        self._streams[host] = stream
        try:
            yield
        finally:
            self._streams[host] = before

    def wait(self, place: str) -> None:
        """This host waits for its stream."""
        self.clocks.follow(self.actor, self.stream.actor)
        self.note_wait(place)

    def note_wait(self, place: str) -> None:
        """Counts it."""
        self.waits[self.phase, place] += 1
        if self.tape is not None:
            self.faults["a wait in a recording", place] += 1

    @contextmanager
    def in_phase(self, name: str) -> Iterator[None]:
        """What is called within counts as this; an inner phase wins."""
        before, self.phase = self.phase, name
        try:
            yield
        finally:
            self.phase = before

    # Memory

    def allocate(self, tensor: torch.Tensor, place: str) -> None:
        """New memory."""
        storage = tensor.untyped_storage()
        self.footprints[storage.data_ptr()] = Footprints(storage.nbytes(), place)
        if self.tape is not None:
            self.kept.append(tensor)

    def touch(self, actor: int, tensor: torch.Tensor, *, write: bool, rows: Any = None) -> None:
        """An access; what is being recorded does not run yet."""
        footprints = self.footprints.get(tensor.untyped_storage().data_ptr())
        if footprints is not None and self.tape is None:
            self.races.update(footprints.touch(self.clocks, actor, tensor, write=write, rows=rows))


@contextmanager
def simulated_device(*modules: types.ModuleType) -> Iterator[Device]:
    """Puts the device in the place of `torch.cuda`, for as long as the block lasts.

    Args:
        *modules: whose `threading` is replaced.
    """
    from tests.reference.device_dispatch import Dispatch, replace_torch
    from tests.reference.device_graphs import graphs_of  # both need the class above

    device = Device()
    names = iter(range(1, 1000))
    events = type("Event", (Event,), {"device": device})
    capture = graphs_of(device)
    replaced: dict[str, Any] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "Stream": lambda device_=None, priority=0, **_: Stream(device, f"{next(names)}", priority),
        "Event": events,
        "stream": device.on,
        "current_stream": lambda device_=None: device.stream,
        "default_stream": lambda device_=None: device.default_stream,
        "synchronize": lambda device_=None: _synchronise(device),
        "empty_cache": lambda: None,
        "mem_get_info": lambda device_=None: (8 << 30, 8 << 30),
        **capture,
    }
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in replaced.items():
            patch.setattr(torch.cuda, name, value)
        stack.enter_context(taking_turns(device, *modules))
        replace_torch(patch, device)
        stack.enter_context(Dispatch(device))
        yield device


@contextmanager
def taking_turns(device: Device, *modules: types.ModuleType) -> Iterator[None]:
    """Locks and conditions of modules are those of hosts that take turns in one thread."""
    shim = types.SimpleNamespace(Lock=lambda: Lock(device), Condition=lambda: Condition(device))
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "threading", shim)
        yield


def _synchronise(device: Device) -> None:
    device.clocks.follow_all(device.actor)
    device.note_wait(place())
