"""Display of a run: a live table on a terminal, a plain line now and then elsewhere.

It draws and decides nothing. Log lines and a live table share a terminal because the table's owner prints whatever is
written to sys.stderr above it; see `logs.py`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from seedbed.common.counting import count
from seedbed.server.monitoring.replica_figures import ReplicaStatus
from seedbed.server.monitoring.task_status import TaskStatus, task_rows
from seedbed.server.run.cohorts import CohortRecord

logger = logging.getLogger(__name__)

_PLAIN_INTERVAL_S = 10.0
_COLUMN_WIDTHS = (8, 26, 8, 24)  # fixed for numbers of usual size, so that they do not dance


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a run stands. None: not known yet.

    Attributes:
        elapsed_s: of this run, over all its starts.
        agent_steps, frames, updates, episodes: since the run's beginning.
        steps_per_s, frames_per_s: agent steps and emulator frames, lately.
        environments: that are connected.
        episode_return_mean: of the newest 100 episodes that ended.
        cohorts: what the run is judged by.
        cohort_progress: episodes of the open cohort that have ended, and its size.
        policy_lag_mean, policy_lag_max: in updates.
        loss, entropy: over the last log interval.
        max_steps, max_seconds, target_return: stop conditions.
        tasks: of several, how each stands.
        waiting_for: what keeps the run from going on, e.g. "env clients: 0 connected".
        replicas: how each of several does.
    """

    elapsed_s: float
    agent_steps: int
    frames: int
    updates: int
    episodes: int
    steps_per_s: float
    frames_per_s: float
    environments: int = 0
    episode_return_mean: float | None = None
    cohorts: CohortRecord = field(default_factory=CohortRecord)
    cohort_progress: tuple[int, int] = (0, 100)
    policy_lag_mean: float | None = None
    policy_lag_max: float | None = None
    loss: float | None = None
    entropy: float | None = None
    max_steps: int | None = None
    max_seconds: float | None = None
    target_return: float | None = None
    tasks: Sequence[TaskStatus] = ()
    waiting_for: str | None = None
    replicas: Sequence[ReplicaStatus] = ()

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

    def introduce(self, lines: Sequence[str]) -> None:
        """Shows what it is."""

    def update(self, status: Status) -> None:
        """Shows how it stands."""

    def close(self, summary: str, advice: Sequence[str] = ()) -> None:
        """Shows how it ended, and what may be done next; nothing is shown after that."""


class PlainProgress:
    """One line at most every `interval_s`, and a last one."""

    def __init__(
        self, stream: TextIO, interval_s: float = _PLAIN_INTERVAL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._clock = clock
        self._next_s = -float("inf")

    def introduce(self, lines: Sequence[str]) -> None:
        """Writes them."""
        print(*lines, sep="\n", file=self._stream, flush=True)

    def update(self, status: Status) -> None:
        """Writes a line if it is time for one."""
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + self._interval_s
            parts = [f"{label} {value}" for label, value in describe(status) if value not in ("-", "- (max -)")]
            if status.waiting_for:
                parts.append(f"waiting for {status.waiting_for}")
            tasks = ["  " + "  ".join(row).rstrip() for row in task_rows(status.tasks)]
            lines = ["  ".join(parts), *(f"  {one.describe(rank)}" for rank, one in enumerate(status.replicas)), *tasks]
            print(*lines, sep="\n", file=self._stream, flush=True)

    def close(self, summary: str, advice: Sequence[str] = ()) -> None:
        """Writes the summary."""
        print(summary, *advice, sep="\n", file=self._stream, flush=True)


class LiveProgress:
    """A table that is drawn anew at the bottom of a terminal. Draws only when told to: it has no thread."""

    def __init__(self, console: Console) -> None:
        """Takes over sys.stdout and sys.stderr until `close`, so that others' lines go above the table."""
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def introduce(self, lines: Sequence[str]) -> None:
        """Writes them above the table."""
        self._console.print(Text("\n".join(lines)))

    def update(self, status: Status) -> None:
        """Draws the table."""
        self._live.update(_make_table(status), refresh=True)

    def close(self, summary: str, advice: Sequence[str] = ()) -> None:
        """Leaves the table as it is and writes the summary below it."""
        self._live.stop()
        self._console.print(Text("\n".join([summary, *advice])))


class NoProgress:
    """Shows nothing: a replica of a run that another one shows."""

    def introduce(self, lines: Sequence[str]) -> None:
        """See `Progress`."""

    def update(self, status: Status) -> None:
        """See `Progress`."""

    def close(self, summary: str, advice: Sequence[str] = ()) -> None:
        """See `Progress`."""


class TolerantProgress:
    """Another display, whose failures end no run: a terminal or reader that is gone, a full disk below a file."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._fails = False

    def introduce(self, lines: Sequence[str]) -> None:
        """See `Progress`."""
        self._try(lambda: self._shown.introduce(lines))

    def update(self, status: Status) -> None:
        """See `Progress`."""
        self._try(lambda: self._shown.update(status))

    def close(self, summary: str, advice: Sequence[str] = ()) -> None:
        """See `Progress`."""
        self._try(lambda: self._shown.close(summary, advice))

    def _try(self, show: Callable[[], None]) -> None:
        """Says once that it fails, to a log that may have a reader: the next call tries again."""
        try:
            show()
        except OSError as error:
            if not self._fails:
                logger.warning("the progress of the run cannot be shown: %s", error)
            self._fails = True
        else:
            self._fails = False


def make_progress(stream: TextIO | None = None) -> Progress:
    """The display that suits a stream; sys.stderr if None."""
    stream = sys.stderr if stream is None else stream
    console = Console(file=stream)
    return LiveProgress(console) if console.is_terminal and not console.is_dumb_terminal else PlainProgress(stream)


def describe(status: Status) -> list[tuple[str, str]]:
    """Labels and values, for a line or a table."""
    lag_mean, lag_max = _number(status.policy_lag_mean, ".1f"), _number(status.policy_lag_max, ".0f")
    remaining_s, best = status.remaining_s, status.cohorts.best
    return [
        ("elapsed", _duration(status.elapsed_s)),
        ("left", "-" if remaining_s is None else _duration(remaining_s)),
        ("steps", f"{status.agent_steps:,} ({status.steps_per_s:,.0f}/s)"),
        ("frames", f"{status.frames:,} ({status.frames_per_s:,.0f}/s)"),
        ("return", _return(status)),
        ("best", "-" if best is None else f"{best.mean:.2f} (cohort of {best.episodes})"),
        ("target", _target(status)),
        ("cohort", _cohort(status)),
        ("updates", f"{status.updates:,}"),
        ("lag", f"{lag_mean} (max {lag_max})"),
        ("loss", _number(status.loss, ".4g")),
        ("entropy", _number(status.entropy, ".3g")),
    ]


def _return(status: Status) -> str:
    """A mean, and of how many; before there is one, how far the first episodes are."""
    if status.episode_return_mean is None:
        far = status.agent_steps // status.environments if status.environments else 0
        return f"none: {far:,} steps into the first episodes" if far else "none yet"
    shown = f"last 100 of {status.episodes:,}" if status.episodes > 100 else count(status.episodes, "episode")
    return f"{status.episode_return_mean:.2f} ({shown})"


def _target(status: Status) -> str:
    """With how far the newest cohort is on the way from the first one, once there are two."""
    target, first, newest = status.target_return, status.cohorts.first, status.cohorts.newest
    if target is None:
        return "-"
    if first is None or newest is None or newest == first or first.mean >= target:
        return f"{target:g}"
    return f"{target:g} ({max(0.0, (newest.score - first.mean) / (target - first.mean)):.0%} of the way)"


def _cohort(status: Status) -> str:
    done, size = status.cohort_progress
    void = f" ({status.cohorts.void:,} void)" if status.cohorts.void else ""
    return f"{done:,} of {count(size, 'episode')}{void}"


def _make_table(status: Status) -> Group:
    """Two pairs of label and value in each row; below them what the run waits for."""
    table = Table.grid(padding=(0, 2))
    for min_width in _COLUMN_WIDTHS:
        table.add_column(min_width=min_width)
    items = [(Text(label, style="dim"), Text(value, style="bold")) for label, value in describe(status)]
    for left, right in zip(items[::2], items[1::2], strict=True):
        table.add_row(*left, *right)
    tasks = _task_table(status.tasks)
    waiting = [Text(f"waiting for {status.waiting_for}", style="yellow")] if status.waiting_for else []
    replicas = [Text(one.describe(rank)) for rank, one in enumerate(status.replicas)]
    return Group(table, *tasks, *replicas, *waiting)


def _task_table(tasks: Sequence[TaskStatus]) -> list[Table]:
    """A row for each of several tasks; none where there is one."""
    if not tasks:
        return []
    table = Table.grid(padding=(0, 2))
    for number, row in enumerate(task_rows(tasks)):
        table.add_row(*(Text(part, style="dim" if number == 0 else "") for part in row))
    return [table]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _duration(seconds: float) -> str:
    """As 1:02:03, days counted as hours."""
    minutes, whole_s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{whole_s:02d}"
