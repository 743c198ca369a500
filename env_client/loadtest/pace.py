"""When a client sends its next timesteps: as soon as its environments have stepped, or at a fixed rate."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import numpy as np

_TIMER_S = 0.002
"""A timer of asyncio is up to 1 ms late (epoll counts milliseconds), which is no latency of the server."""


class Pace(Protocol):
    """Says when the next timesteps are due."""

    async def next_start_s(self) -> float:
        """Waits until they are, and returns from when on their latency counts, by `time.perf_counter`."""


class ClosedLoop:
    """E environments are stepped one after another as soon as their actions are there.

    Args:
        num_rows: E.
        step_s, jitter_s: one environment takes `step_s` plus a random time up to `jitter_s`.
        rng: of the jitter.
    """

    def __init__(self, num_rows: int, step_s: float, jitter_s: float, rng: np.random.Generator) -> None:
        self._num_rows = num_rows
        self._step_s = step_s
        self._jitter_s = jitter_s
        self._rng = rng

    async def next_start_s(self) -> float:
        """See `Pace`."""
        if self._step_s or self._jitter_s:
            await asyncio.sleep(self._num_rows * self._step_s + self._jitter_s * self._rng.random(self._num_rows).sum())
        return time.perf_counter()


class FixedRate:
    """Timesteps are due at fixed times, come what may.

    A client that waits for a slow answer falls behind its schedule. What it sends then counts from the time at which it
    was due: otherwise a server that stalls would be measured by the few requests that were sent meanwhile (coordinated
    omission).

    Args:
        period_s: between two messages.
        offset_s: of the schedule, after the first message, which opens the stream and goes at once.
    """

    def __init__(self, period_s: float, offset_s: float) -> None:
        self._period_s = period_s
        self._offset_s = offset_s
        self._due_s: float | None = None

    async def next_start_s(self) -> float:
        """See `Pace`."""
        now_s = time.perf_counter()
        if self._due_s is None:
            self._due_s = now_s + self._offset_s
            return now_s
        due_s, self._due_s = self._due_s, self._due_s + self._period_s
        if now_s >= due_s:
            return due_s
        await asyncio.sleep(due_s - now_s)
        now_s = time.perf_counter()
        return now_s if now_s - due_s < _TIMER_S else due_s
