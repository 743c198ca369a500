"""What a person sees of a run: a live table on a terminal, a plain line now and then elsewhere.

It draws and decides nothing. Log lines and a live table share a terminal because the table's owner prints whatever is
written to sys.stderr above it; see `logs.py`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

_PLAIN_INTERVAL_S = 10.0
_COLUMN_WIDTHS = (8, 24, 8, 24)  # fixed for numbers of usual size, so that they do not dance


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a run stands. None: not known yet.

    Attributes:
        elapsed_s: of this run, over all its starts.
        agent_steps, frames, updates, episodes: since the run's beginning.
        steps_per_s, frames_per_s: agent steps and emulator frames, lately.
        episode_return_mean: of the newest 100 episodes.
        policy_lag_mean, policy_lag_max: in updates.
        loss: of the newest update.
        max_steps, max_seconds: stop conditions.
        waiting_for: what keeps the run from going on, e.g. "env clients: 0 connected".
    """

    elapsed_s: float
    agent_steps: int
    frames: int
    updates: int
    episodes: int
    steps_per_s: float
    frames_per_s: float
    episode_return_mean: float | None = None
    policy_lag_mean: float | None = None
    policy_lag_max: float | None = None
    loss: float | None = None
    max_steps: int | None = None
    max_seconds: float | None = None
    waiting_for: str | None = None

    @property
    def remaining_s(self) -> float | None:
        """Time to the stop condition that comes first at the present speed; None if none is in sight."""
        estimates = []
        if self.max_steps is not None and self.steps_per_s > 0:
            estimates.append((self.max_steps - self.agent_steps) / self.steps_per_s)
        if self.max_seconds is not None:
            estimates.append(self.max_seconds - self.elapsed_s)
        return max(0.0, min(estimates)) if estimates else None


class Progress(Protocol):
    """Shows a run."""

    def update(self, status: Status) -> None:
        """Shows how it stands."""

    def close(self, summary: str) -> None:
        """Shows how it ended; nothing is shown after that."""


class PlainProgress:
    """One line at most every `interval_s`, and a last one."""

    def __init__(
        self, stream: TextIO, interval_s: float = _PLAIN_INTERVAL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._clock = clock
        self._next_s = -float("inf")

    def update(self, status: Status) -> None:
        """Writes a line if it is time for one."""
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + self._interval_s
            parts = [f"{label} {value}" for label, value in describe(status)]
            if status.waiting_for:
                parts.append(f"waiting for {status.waiting_for}")
            print("  ".join(parts), file=self._stream, flush=True)

    def close(self, summary: str) -> None:
        """Writes the summary."""
        print(summary, file=self._stream, flush=True)


class LiveProgress:
    """A table that is drawn anew at the bottom of a terminal. Draws only when told to: it has no thread."""

    def __init__(self, console: Console) -> None:
        """Takes over sys.stdout and sys.stderr until `close`, so that others' lines go above the table."""
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def update(self, status: Status) -> None:
        """Draws the table."""
        self._live.update(_make_table(status), refresh=True)

    def close(self, summary: str) -> None:
        """Takes the table away and writes the summary."""
        self._live.stop()
        self._console.print(Text(summary))


def make_progress(stream: TextIO | None = None) -> Progress:
    """The display that suits a stream; sys.stderr if None."""
    stream = sys.stderr if stream is None else stream
    console = Console(file=stream)
    return LiveProgress(console) if console.is_terminal and not console.is_dumb_terminal else PlainProgress(stream)


def describe(status: Status) -> list[tuple[str, str]]:
    """Labels and values, for a line or a table."""
    lag_mean, lag_max = _number(status.policy_lag_mean, ".1f"), _number(status.policy_lag_max, ".0f")
    remaining_s = status.remaining_s
    return [
        ("elapsed", _duration(status.elapsed_s)),
        ("left", "-" if remaining_s is None else _duration(remaining_s)),
        ("steps", f"{status.agent_steps:,} ({status.steps_per_s:,.0f}/s)"),
        ("frames", f"{status.frames:,} ({status.frames_per_s:,.0f}/s)"),
        ("return", f"{_number(status.episode_return_mean, '.2f')} ({status.episodes:,} episodes)"),
        ("updates", f"{status.updates:,}"),
        ("lag", f"{lag_mean} (max {lag_max})"),
        ("loss", _number(status.loss, ".4g")),
    ]


def _make_table(status: Status) -> Group:
    """Two pairs of label and value in each row; below them what the run waits for."""
    table = Table.grid(padding=(0, 2))
    for min_width in _COLUMN_WIDTHS:
        table.add_column(min_width=min_width)
    items = [(Text(label, style="dim"), Text(value, style="bold")) for label, value in describe(status)]
    for left, right in zip(items[::2], items[1::2], strict=True):
        table.add_row(*left, *right)
    waiting = [Text(f"waiting for {status.waiting_for}", style="yellow")] if status.waiting_for else []
    return Group(table, *waiting)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _duration(seconds: float) -> str:
    """As 1:02:03, days counted as hours."""
    minutes, whole_s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{whole_s:02d}"
