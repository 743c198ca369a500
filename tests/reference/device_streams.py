"""Streams, events, locks and conditions of the simulated device: they only pass on what is known of whose work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from tests.reference.device_clocks import Clock, merge
from tests.reference.device_operations import place

if TYPE_CHECKING:
    from tests.reference.device import Device

CUDA = torch.device("cuda", 0)


class Stream:
    """As `torch.cuda.Stream`."""

    def __init__(self, device: Device, name: str, priority: int = 0) -> None:
        self._device = device
        self.actor = device.clocks.add(f"stream {name}")
        self.device = CUDA
        self.priority = priority

    def wait_stream(self, other: Stream) -> None:
        """Its work comes after all that the other has been given."""
        self._device.clocks.follow(self.actor, other.actor)

    def synchronize(self) -> None:
        """The host waits for it."""
        self._device.clocks.follow(self._device.actor, self.actor)
        self._device.note_wait(place())


class Event:
    """As `torch.cuda.Event`."""

    device: Device

    def __init__(self, enable_timing: bool = False) -> None:
        self._clock: Clock | None = None
        self._stream = -1

    def record(self, stream: Stream | None = None) -> None:
        """What the stream has been given so far."""
        stream = stream or self.device.stream
        self.device.clocks.follow(stream.actor, self.device.actor)
        self._stream, self._clock = stream.actor, self.device.clocks.snapshot(stream.actor)

    def wait(self, stream: Stream | None = None) -> None:
        """The stream goes on after it."""
        if self._clock is not None:
            self.device.clocks.learn((stream or self.device.stream).actor, self._clock)

    def query(self) -> bool:
        """Whether it is done; a host that sees so knows. Of a slow device only what a host has waited for is."""
        if self._clock is None:
            return True
        if self.device.slow:
            known = self.device.clocks.snapshot(self.device.actor)
            return all(known.get(actor, 0) >= time for actor, time in self._clock.items())
        self.device.clocks.learn(self.device.actor, self._clock)
        return True

    def synchronize(self) -> None:
        """The host waits for it, unless it knows already; late: with work behind it, the device does not run dry."""
        if self._clock is None:
            return
        known = self.device.clocks.snapshot(self.device.actor)
        if any(known.get(actor, 0) < time for actor, time in self._clock.items()):
            behind = self.device.clocks.now(self._stream) > self._clock[self._stream]
            self.device.note_wait(f"{place()}{' (late)' if behind else ''}")
        self.device.clocks.learn(self.device.actor, self._clock)


class Lock:
    """As `threading.Lock`; who takes it knows what those who gave it back knew."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._clock: Clock = {}

    def acquire(self) -> bool:
        """Takes it; there is one thread, so it is free."""
        self._device.clocks.learn(self._device.actor, self._clock)
        return True

    def release(self) -> None:
        """Gives it back."""
        self._device.clocks.tick(self._device.actor, "unlocked")
        merge(self._clock, self._device.clocks.snapshot(self._device.actor))

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Condition(Lock):
    """As `threading.Condition`: who waits lets the others have their turns."""

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Whether it came true; False too where nobody is left to make it so."""
        while not predicate():
            self.release()
            gave_way = self._device.give_way()
            self.acquire()
            if not gave_way:
                break
        return predicate()

    def notify_all(self) -> None:
        """Nobody sleeps."""
