"""The tracker of a run: another program that its numbers go to, an interval at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """What a tracker is told of a run.

    Attributes:
        name: of its directory.
        directory: where it lives.
        config: every option, nested as in config.json, without tokens, certificates and who may reach the server.
        environment: its name.
        version: of seedbed.
        resume_step: x of the last numbers that were told before; None: the run is new.
    """

    name: str
    directory: Path
    config: Mapping[str, Any]
    environment: str
    version: str
    resume_step: int | None = None

    def options(self) -> list[tuple[str, Any]]:
        """`config` for trackers that know no nesting: dotted names and values."""
        return _flat(self.config)


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in config.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return found


class Tracker(Protocol):
    """Three methods, all called in one thread of their own, which may wait, raise and hang.

    One that also has `histograms(self, histograms: Mapping[str, Spread], step: int)` gets those after `log`.
    """

    def start(self, run: TrackedRun) -> None:
        """The run has something to tell; called once, before the first numbers, and again if it raises."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Numbers of an interval that are known, by the names of docs/metrics.md; the step is environment frames."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run has ended: "ended" says how, "failed" whether an error did it, "agent_steps" and "updates" where."""
