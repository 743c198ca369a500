"""Torsos and cores by name: built in, brought by an installed distribution, or MODULE:ATTR.

A file is imported when what is in it is asked for: they bring torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seedbed.common.errors import UsageError
from seedbed.common.plugins import Trust, find

if TYPE_CHECKING:
    from seedbed.server.networks.cores import Core
    from seedbed.server.networks.torso import Torso

_FOLDER = "seedbed.server.networks"
_NOTHING_TYPED = Trust(typed=frozenset(), allow_import=False)

TORSOS: Mapping[str, str] = {
    "auto": f"{_FOLDER}.auto:Auto",
    "mlp": f"{_FOLDER}.vectors:MLP",
    "flat": f"{_FOLDER}.vectors:Flat",
    "impala_shallow": f"{_FOLDER}.images:ImpalaShallow",
    "nature": f"{_FOLDER}.images:Nature",
    "impala_deep": f"{_FOLDER}.images:ImpalaDeep",
}
"""Name -> MODULE:CLASS, a `torso.Torso`."""

TORSO_SUMMARIES: Mapping[str, str] = {
    "auto": "an encoder for each array of an observation, chosen by what it shows",
    "mlp": "layers over all numbers together",
    "flat": "all numbers as they are, no layers",
    "impala_shallow": "two convolutions, for images",
    "nature": "three convolutions (DQN), for images",
    "impala_deep": "fifteen convolutions with residuals, for images",
}
"""Name -> what it is, in a few words."""

CORES: Mapping[str, str] = {
    "none": f"{_FOLDER}.cores:FeedForward",
    "lstm": f"{_FOLDER}.cores:LSTM",
    "trxl": f"{_FOLDER}.transformer:TrXL",
    "gtrxl": f"{_FOLDER}.transformer:GTrXL",
}
"""Name -> MODULE:CLASS, a `cores.Core`."""

CORE_SUMMARIES: Mapping[str, str] = {
    "none": "no memory beside stacked frames",
    "lstm": "recurrent, fed with last action and reward too",
    "trxl": "attention over the last steps (Transformer-XL with identity map reordering)",
    "gtrxl": "the same with gates in the place of sums",
}
"""Name -> what it is, in a few words."""


def find_torso(name: str, trust: Trust = _NOTHING_TYPED) -> type[Torso]:
    """The torso of a name.

    Raises:
        UsageError: there is none, or it may not be imported.
    """
    from seedbed.server.networks.torso import Torso

    return _expect(find("torsos", name, TORSOS, trust), Torso, f"--torso {name}")


def find_core(name: str, trust: Trust = _NOTHING_TYPED) -> type[Core]:
    """The core of a name.

    Raises:
        UsageError: there is none, or it may not be imported.
    """
    from seedbed.server.networks.cores import Core

    return _expect(find("cores", name, CORES, trust), Core, f"--core {name}")


def _expect(found: Any, base: type[Any], option: str) -> Any:
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{option}: expected a subclass of {base.__module__}.{base.__name__}, got {found!r:.200}")
    return found
