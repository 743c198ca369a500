"""Metrics of a run: one JSON line per log interval in `metrics.jsonl`, and what trackers call the same.

Lines are for programs and hold whatever the run has to say; `REQUIRED` is always among it. In trackers the x axis is
environment frames, and what Stable-Baselines3 logs too has its name, so that curves of both lie over one another.
docs/metrics.md lists all names.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from seedbed.common.errors import ConfigError
from seedbed.server.monitoring.line_file import LineFile, complete_lines, read_lines, truncate
from seedbed.server.run.directory import METRICS_FILE

_WINDOW = 100  # episodes

REQUIRED = (
    "wall_s",
    "agent_steps",
    "frames",
    "steps_per_s",
    "frames_per_s",
    "updates",
    "episode_return_mean",
    "episodes",
    "policy_lag_mean",
    "policy_lag_max",
    "inference_batch_mean",
    "loss",
)

# Key in the file -> name in trackers; all others are "train/<key>", or keep a "/". Stable-Baselines3 has the first.
_TAGS = {
    "episode_return_mean": "rollout/ep_rew_mean",
    "episode_steps_mean": "rollout/ep_len_mean",
    "frames_per_s": "time/fps",
    "wall_s": "time/time_elapsed",
    "agent_steps": "time/total_timesteps",
    "updates": "train/n_updates",
    "loss": "train/loss",
    "policy_loss": "train/policy_gradient_loss",
    "baseline_loss": "train/value_loss",
    "info/is_success": "rollout/success_rate",
    "steps_per_s": "time/steps_per_s",
    "episodes": "rollout/episodes",
    "cohorts": "cohorts/judged",
    "cohorts_void": "cohorts/void",
    "cohort_return_mean": "cohorts/return_mean",
    "cohort_return_median": "cohorts/return_median",
    "cohort_return_error": "cohorts/return_error",
    "cohort_return_best": "cohorts/return_best",
    "inference_batch_mean": "serving/inference_batch_mean",
    "wait_ms_mean": "serving/wait_ms_mean",
    "inference_ms_mean": "serving/inference_ms_mean",
    "slots_in_use": "serving/slots_in_use",
    "back_pressure_share": "serving/back_pressure_share",
    "update_ms_mean": "time/update_ms_mean",
    "learner_idle_share": "time/learner_idle_share",
}

Metrics = Mapping[str, float | int | None]


class MetricsWriter:
    """Appends to a run's metrics. One process writes.

    Attributes:
        resume_step: frames of the last line from before this start that stays; None: there is none.
    """

    def __init__(self, run_dir: Path, *, resume_step: int, resume_wall_s: float = math.inf) -> None:
        """Opens the file.

        Args:
            run_dir: of the run.
            resume_step: agent steps of the checkpoint from which the run goes on, 0 for a new run. Lines beyond it
                tell of a future that did not happen, and are removed.
            resume_wall_s: its time. A start that was killed before its first step has left a line with the same steps.
        """
        run_dir.mkdir(parents=True, exist_ok=True)
        path = run_dir / METRICS_FILE
        last = truncate(path, resume_step, resume_wall_s)
        self._file = LineFile(path)
        frames = None if last is None else last.get("frames")
        self.resume_step = frames if isinstance(frames, int) else None

    def write(self, metrics: Metrics) -> Metrics:
        """Writes one line, which can be read as soon as this returns; a full disk costs it.

        Args:
            metrics: at least `REQUIRED`. What is not known yet is None; NaN and infinities become null, which JSON
                has instead.

        Returns:
            The line.

        Raises:
            ValueError: a required key is missing.
        """
        missing = [key for key in REQUIRED if key not in metrics]
        if missing:
            raise ValueError(f"expected metrics to have {', '.join(REQUIRED)}; missing {', '.join(missing)}")
        finite = {key: _finite(value) for key, value in metrics.items()}
        line = {key: finite[key] for key in REQUIRED} | finite
        self._file.write(json.dumps(line) + "\n")
        return line

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def tagged(line: Metrics) -> dict[str, float]:
    """What trackers get of a line: what is known, by its name there. Frames are their x axis."""
    return {tag_of(key): value for key, value in line.items() if value is not None and key != "frames"}


def tag_of(key: str) -> str:
    """The name in trackers of what has this key in the file."""
    return _TAGS.get(key, key if "/" in key else f"train/{key}")


class EpisodeWindow:
    """Statistics of the newest episodes.

    Attributes:
        num_episodes: all that were ever added.
    """

    def __init__(self, size: int = _WINDOW) -> None:
        self.num_episodes = 0
        self._episodes: deque[tuple[float, int, int]] = deque(maxlen=size)

    def __len__(self) -> int:
        return len(self._episodes)

    def add(self, episode_return: float, steps: int, frames: int) -> None:
        """Adds an episode: sum of raw rewards, agent steps, emulator frames."""
        self.num_episodes += 1
        self._episodes.append((float(episode_return), int(steps), int(frames)))

    @property
    def return_mean(self) -> float | None:
        """None before the first episode, like all below."""
        return self._mean(0)

    @property
    def steps_mean(self) -> float | None:
        """Mean length in agent steps."""
        return self._mean(1)

    def get_state(self) -> dict[str, Any]:
        """What JSON can hold."""
        # A copy in one step: episodes are added by another thread, here and below.
        return {"num_episodes": self.num_episodes, "episodes": [list(episode) for episode in tuple(self._episodes)]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], size: int = _WINDOW) -> Self:
        """The inverse of `get_state`."""
        window = cls(size)
        for episode_return, steps, frames in state["episodes"]:
            window.add(episode_return, steps, frames)
        window.num_episodes = state["num_episodes"]
        return window

    def _mean(self, column: int) -> float | None:
        values = [episode[column] for episode in tuple(self._episodes)]
        try:
            return statistics.fmean(values) if values else None
        except OverflowError:  # clients may say anything that is finite; sums of it need not be
            return math.inf


def read_metrics(run_dir: Path | str) -> list[dict[str, Any]]:
    """All lines of a run's `metrics.jsonl`, oldest first; a last line that is not complete is left out.

    Args:
        run_dir: of the run, which may still go on.

    Raises:
        ConfigError: there is no such file, or a line in its midst is damaged.
    """
    path = Path(run_dir) / METRICS_FILE
    if not path.exists():
        raise ConfigError(f"expected the folder of a run with {METRICS_FILE}, got {run_dir}")
    return [line for _, line in complete_lines(path, read_lines(path))]


def _finite(value: float | int | None) -> float | int | None:
    return value if value is not None and math.isfinite(value) else None
