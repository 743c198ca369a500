"""`seedbed.testing`, as the tests of a plug-in call it, on the plug-in of these tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seedbed.testing import check_algorithm, check_environment, check_torso
from tests.server.training.test_checks import VECTOR

PLUGIN = Path(__file__).resolve().parents[1] / "plugin"


@pytest.fixture(autouse=True)
def _plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Importable, as if the tests were started beside it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(PLUGIN)
    monkeypatch.syspath_prepend(PLUGIN)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "orchard"]:
        del sys.modules[name]


def test_the_plug_in_passes() -> None:
    check_algorithm("orchard.algorithm:Harvest")
    check_torso("orchard.torso:Attention", VECTOR, (3,))
    check_environment("orchard.environment:make", {"trees": 3}, steps=30)


def test_an_environment_that_nothing_can_be_learnt_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "liar.py").write_text(
        "from orchard.environment import Orchard\n"
        "class Liar(Orchard):\n"
        "    def step(self, action):\n"
        "        return (self._show()[:2], *super().step(action)[1:])\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=r"^liar:Liar: .* got float32\[2\]"):
        check_environment("liar:Liar", steps=5)


def test_importing_it_brings_no_torch() -> None:
    code = "import seedbed.testing, sys; assert not {'torch', 'gymnasium', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
