"""Episodes of a run: a line for each in `episodes.jsonl`, and means of the numbers that environments tell of them.

The inference thread only puts a record into a queue of its own; the main thread writes. Two files of a bounded size are
kept, `episodes.1.jsonl` with the older ones.
"""

from __future__ import annotations

import contextlib
import json
import logging
import statistics
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedbed.common.errors import ConfigError
from seedbed.common.info_numbers import MAX_NUMBERS
from seedbed.common.timestep import EpisodeEnd
from seedbed.server.monitoring.line_file import LineFile, read_lines, readable_lines, truncate
from seedbed.server.run.directory import EPISODES_FILE, OLDER_EPISODES_FILE

logger = logging.getLogger(__name__)

_FILE_BYTES = 32 << 20
_MAX_WAITING = 50_000
_WINDOW = 100  # episodes, as of `metrics.EpisodeWindow`


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """An episode that has ended.

    Attributes:
        wall_s, agent_steps: where the run stood, as in `metrics.jsonl`.
        index: of the environment in the fleet.
        client: the name of the process that stepped it.
        counts: it is one of those that the run is judged by.
        end: what the client told.
        task: of several; None where there is one.
    """

    wall_s: float
    agent_steps: int
    index: int
    client: str
    counts: bool
    end: EpisodeEnd
    task: str | None = None


class EpisodeQueue:
    """Records on the way from the inference thread to the main one; when nobody takes them, new ones are lost.

    Attributes:
        lost: how many were.
    """

    def __init__(self, size: int = _MAX_WAITING) -> None:
        self.lost = 0
        self._size = size
        self._records: deque[EpisodeRecord] = deque()

    def put(self, record: EpisodeRecord) -> None:
        """Adds one; never waits."""
        if len(self._records) < self._size:
            self._records.append(record)
        else:
            self.lost += 1

    def take(self) -> list[EpisodeRecord]:
        """All that are there, oldest first."""
        return [self._records.popleft() for _ in range(len(self._records))]


class EpisodeLog:
    """The main thread's side."""

    def __init__(
        self,
        run_dir: Path,
        queue: EpisodeQueue,
        *,
        task: str,
        greedy: range,
        writes: bool,
        resume_step: int,
        resume_wall_s: float,
        file_bytes: int = _FILE_BYTES,
    ) -> None:
        """Opens the file.

        Args:
            run_dir: of the run.
            queue: what the records come from.
            task: the environment.
            greedy: indices of the environments that take the best action.
            writes: whether there is a file.
            resume_step, resume_wall_s: of the checkpoint from which the run goes on: later lines are removed.
            file_bytes: a larger file makes room for a new one.
        """
        self.numbers = NumberWindows()
        self._queue = queue
        self._task = task
        self._greedy = greedy
        self._path, self._older = run_dir / EPISODES_FILE, run_dir / OLDER_EPISODES_FILE
        self._file_bytes = file_bytes
        self._file: LineFile | None = None
        self._said_lost = self._said_large = False
        for path in (self._older, self._path):
            truncate(path, resume_step, resume_wall_s, readable_lines)
        if writes:
            self._file = LineFile(self._path)

    @property
    def file_bytes(self) -> int | None:
        """Size of the file; None if there is none."""
        return None if self._file is None else self._file.size

    def take(self) -> None:
        """Writes down what has ended since the last call."""
        records = self._queue.take()
        for record in records:
            if record.counts:
                self.numbers.add(record.end.info)
        if self._file is not None and records:
            self._file.write("".join(json.dumps(self._line(record)) + "\n" for record in records))
            if self._file.size > self._file_bytes:
                self._turn_over(self._file)
        if self._queue.lost and not self._said_lost:
            self._said_lost = True
            logger.warning("%s misses episodes: more end than can be written down", self._path)

    def close(self) -> None:
        """Writes the rest."""
        self.take()
        if self._file is not None:
            self._file.close()

    def _line(self, record: EpisodeRecord) -> Mapping[str, Any]:
        end = record.end
        return {
            "wall_s": round(record.wall_s, 3),
            "agent_steps": record.agent_steps,
            "index": record.index,
            "client": record.client,
            "task": record.task or self._task,
            "return": end.episode_return,
            "steps": end.steps,
            "frames": end.frames,
            "end": "truncated" if end.truncated else "terminated",
            "greedy": record.index in self._greedy,
            "counts": record.counts,
            "info": dict(end.info),
        }

    def _turn_over(self, file: LineFile) -> None:
        try:
            with contextlib.suppress(FileNotFoundError):  # an earlier try came no further than this
                self._path.replace(self._older)
            self._file = LineFile(self._path)
        except (OSError, ConfigError) as error:
            if not self._said_large:
                logger.error("%s grows beyond its size: %s", self._path, error)
            self._said_large = True
        else:
            self._said_large = False
            file.close()


class NumberWindows:
    """Means of the numbers that environments tell, each over the latest episodes that had it.

    The first names that come have a place, so a client that makes up ever new ones grows nothing.
    """

    def __init__(self, size: int = _WINDOW, max_names: int = MAX_NUMBERS) -> None:
        self._size = size
        self._max_names = max_names
        self._windows: dict[str, deque[float]] = {}
        self._said_full = False

    def add(self, info: Mapping[str, float]) -> None:
        """Adds an episode's."""
        for name, value in info.items():
            if name not in self._windows:
                if len(self._windows) >= self._max_names:
                    self._say_full(name)
                    continue
                self._windows[name] = deque(maxlen=self._size)
            self._windows[name].append(value)

    def means(self) -> dict[str, float]:
        """By name."""
        return {name: statistics.fmean(window) for name, window in self._windows.items()}

    def _say_full(self, name: str) -> None:
        if not self._said_full:
            self._said_full = True
            logger.warning("environments tell of more than %d numbers: %s gets no metric", self._max_names, name)


def read_episodes(run_dir: Path | str) -> Iterator[dict[str, Any]]:
    """The episodes of a run that may still go on, oldest first: each a line of `episodes.jsonl`.

    Args:
        run_dir: its folder.

    Raises:
        ConfigError: it has no such file.
    """
    files = [Path(run_dir) / name for name in (OLDER_EPISODES_FILE, EPISODES_FILE)]
    found = [file for file in files if file.exists()]
    if not found:
        raise ConfigError(f"expected the folder of a run with {EPISODES_FILE}, got {run_dir}")
    return (entry for file in found for _, entry in readable_lines(file, read_lines(file)))
