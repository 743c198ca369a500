"""Torsos and cores by name: built in, of installed distributions, or MODULE:ATTR. Torch comes with the first one found.

A torso is made as `torso(shown, frame_stack, dtype=..., background=...)`, a core as `core(input_size, space, size)`: a
class, or a function that returns a `torsos.Torso` or a `cores.Core`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from seedbed.common.errors import UsageError
from seedbed.common.plugins import GROUPS, NOTHING_TYPED, Trust, find

if TYPE_CHECKING:
    from seedbed.server.networks.cores import Core
    from seedbed.server.networks.torsos import Torso

TORSOS: Mapping[str, str] = {
    "mlp": "seedbed.server.networks.torsos:mlp",
    "impala_shallow": "seedbed.server.networks.torsos:impala_shallow",
    "nature": "seedbed.server.networks.torsos:nature",
    "impala_deep": "seedbed.server.networks.torsos:ResidualTorso",
}
"""Name -> MODULE:ATTR."""

CORES: Mapping[str, str] = {
    "none": "seedbed.server.networks.cores:no_core",
    "lstm": "seedbed.server.networks.cores:LSTM",
}
"""Name -> MODULE:ATTR."""


def find_torso(name: str, trust: Trust = NOTHING_TYPED) -> Callable[..., Torso]:
    """What makes the torso of that name.

    Raises:
        UsageError: there is none, or it may not be imported.
    """
    return _callable("torsos", name, TORSOS, trust)


def find_core(name: str, trust: Trust = NOTHING_TYPED) -> Callable[..., Core]:
    """What makes the core of that name.

    Raises:
        UsageError: there is none, or it may not be imported.
    """
    return _callable("cores", name, CORES, trust)


def _callable(group: str, name: str, built_in: Mapping[str, str], trust: Trust) -> Callable[..., Any]:
    found = find(group, name, built_in, trust)
    if not callable(found):
        raise UsageError(f"{GROUPS[group]} {name}: expected a class or a function, got {found!r:.100}")
    made: Callable[..., Any] = found
    return made
