"""seedbed in Python: a trained policy to act with, a loop of one's own, training and evaluation.

Every name is imported when it is first asked for: `import seedbed` itself loads neither torch nor gRPC nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seedbed.common.errors import SeedbedError
    from seedbed.env_client.actor import RunFinished
    from seedbed.loading import load
    from seedbed.policy import Memory, Policy
    from seedbed.remote import ConnectedPolicy, EpisodeLost, connect
    from seedbed.server.monitoring.episodes import read_episodes
    from seedbed.server.monitoring.metrics import read_metrics
    from seedbed.spaces import spec_of
    from seedbed.training import Result, StopTraining, evaluate, train

    __version__: str

__all__ = [
    "ConnectedPolicy",
    "EpisodeLost",
    "Memory",
    "Policy",
    "Result",
    "RunFinished",
    "SeedbedError",
    "StopTraining",
    "__version__",
    "connect",
    "evaluate",
    "load",
    "read_episodes",
    "read_metrics",
    "spec_of",
    "train",
]

# Name -> module that has it. No module is called like a name: importing it would take the name's place.
_HOMES = {
    "SeedbedError": "seedbed.common.errors",
    "RunFinished": "seedbed.env_client.actor",
    "load": "seedbed.loading",
    **dict.fromkeys(("Memory", "Policy"), "seedbed.policy"),
    **dict.fromkeys(("ConnectedPolicy", "EpisodeLost", "connect"), "seedbed.remote"),
    "read_episodes": "seedbed.server.monitoring.episodes",
    "read_metrics": "seedbed.server.monitoring.metrics",
    **dict.fromkeys(("spec_of",), "seedbed.spaces"),
    **dict.fromkeys(("Result", "StopTraining", "evaluate", "train"), "seedbed.training"),
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for; from then on it is an attribute like any other."""
    if name == "__version__":
        from importlib.metadata import version  # slow to import, and rarely needed

        value: Any = version("seedbed")
    elif name in _HOMES:
        from seedbed.common.cli import naming_extras

        with naming_extras():
            value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
