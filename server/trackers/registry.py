"""Trackers by name. A file is imported when its tracker is asked for: each brings its package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from seedbed.common.errors import UsageError
from seedbed.common.extras import missing_extra
from seedbed.common.plugins import NOTHING_TYPED, Trust, find

if TYPE_CHECKING:
    from seedbed.server.trackers.interface import Tracker

_FOLDER = "seedbed.server.trackers"
TRACKERS: Mapping[str, str] = {
    "tensorboard": f"{_FOLDER}.tensorboard:TensorBoard",
    "wandb": f"{_FOLDER}.wandb:WandB",
    "trackio": f"{_FOLDER}.trackio:Trackio",
    "mlflow": f"{_FOLDER}.mlflow:MLflow",
}
"""Name -> MODULE:CLASS, an `interface.Tracker`."""

SUMMARIES: Mapping[str, str] = {
    "tensorboard": "event files in the run's folder",
    "wandb": "Weights & Biases, needs the extra wandb",
    "trackio": "Trackio, needs the extra trackio",
    "mlflow": "MLflow, needs the extra mlflow",
}
"""Name -> what it is, in a few words."""

_METHODS = ("start", "log", "finish")


def names_in(text: str | None) -> tuple[str, ...]:
    """The names in --track."""
    return () if text is None else tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def find_trackers(text: str | None, trust: Trust = NOTHING_TYPED) -> Mapping[str, Callable[[], Tracker]]:
    """What makes each of the trackers in --track: built in, of an installed distribution, or MODULE:ATTR.

    Raises:
        UsageError: there is none of that name, it may not be imported, or is no tracker.
        MissingExtraError: its package is not installed.
    """
    return {name: _find(name, trust) for name in names_in(text)}


def _find(name: str, trust: Trust) -> Callable[[], Tracker]:
    if name in TRACKERS and find_spec(name) is None:
        raise missing_extra("server" if name == "tensorboard" else name, f"--track {name} needs it")
    found: Any = find("trackers", name, TRACKERS, trust)
    # A class is looked at as it is; what a function makes can only be looked at when it is made.
    if not callable(found) or (isinstance(found, type) and not all(hasattr(found, method) for method in _METHODS)):
        raise UsageError(
            f"--track {name}: expected a class with {', '.join(_METHODS)}, or a function that makes such a tracker, "
            f"got {found!r:.100}"
        )
    make: Callable[[], Tracker] = found
    return make
