"""The example of docs/networks.md is code that runs, and its rules are those of the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from seedbed.common.errors import SpecError, UsageError
from seedbed.common.image_layout import LEAST_PLANE_SIDE, LEAST_SIDE
from seedbed.common.plugins import Trust
from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.array_kinds import SMALL
from seedbed.server.networks.check import check_torso
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.observations import FEW
from seedbed.server.networks.registry import TORSOS, find_torso
from seedbed.server.networks.torso import Torso
from seedbed.server.networks.vectors import MOST_EMBEDDED, MOST_ONE_HOT
from seedbed.server.options.network import NetworkConfig

PAGE = Path(__file__).resolve().parents[3] / "docs" / "networks.md"
SWARM = ArraySpec(name="observation", dtype="float32", shape=(12, 5))
NAME = "my_torso:Things"


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Torso]:
    """The example, found in the directory of the start by a name that was typed."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "my_torso.py").write_text(code)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_torso", raising=False)
    return find_torso(NAME, Trust(typed=frozenset([NAME]), start_directory=tmp_path))


def test_the_example_is_a_torso(things: type[Torso]) -> None:
    torch.manual_seed(0)
    torso = check_torso(things, [SWARM])
    x = torch.randn(3, 1, 12, 5)
    torch.testing.assert_close(torso((x,)), torso((x.flip(2),)), msg="the order of things does not matter")
    check_torso(things, [SWARM], (3,))
    with pytest.raises(SpecError, match=r"expected one list of things"):
        check_torso(things, [SWARM, SWARM])


def test_a_network_is_built_on_it(things: type[Torso]) -> None:
    network = ActorCritic((SWARM,), ActionSpace((discrete("action", 3),)), NetworkConfig(torso=NAME, core="lstm"))
    assert isinstance(network.body.torso, things)


def test_names_that_nobody_typed_import_nothing() -> None:
    with pytest.raises(UsageError, match="would import"):
        find_torso("my_torso:Others")


def test_the_page_has_the_numbers_of_the_code() -> None:
    text = PAGE.read_text()
    for words in (
        f"sides of at least {LEAST_SIDE}, or `h x w` with sides of at least {LEAST_PLANE_SIDE}",
        f"a side below {SMALL} pixels",
        f"one-hot up to {MOST_ONE_HOT} values, an embedding of 64 up to {MOST_EMBEDDED:,}",
        f"bounds are at most {FEW}",
        *(f"`{name}`" for name in TORSOS if name != "auto"),
    ):
        assert words in text, words
