"""Environments made from names: a module's functions, classes and ids, keyword arguments, installed entry points."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seedbed.common.errors import MissingExtraError, SpecError, UsageError
from seedbed.common.plugins import WIRE, Trust
from seedbed.env_client.environments.building import Care, describe
from seedbed.env_client.environments.interface import Asides
from seedbed.env_client.environments.making import make
from seedbed.env_client.environments.registry import builder
from tests.env_client.environments import odd_environments

gymnasium = pytest.importorskip("gymnasium")

MODULE = odd_environments.__name__  # imported before the fixture: what it registers stays
CARE = Care(trust=Trust(allow_import=True))


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = dict(gymnasium.registry)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A start directory; what is imported from it is forgotten."""
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("make", (20, 16, 3)),
        ('make{"size":3}', (30, 16, 3)),
        ("Sized", (9, 16, 3)),
        ('Sized{"colours":1,"width":17}', (9, 17, 1)),
        ("odd/Sized-v0", (9, 16, 3)),
        ('odd/Sized-v0{"height":10}', (10, 16, 3)),
    ],
)
def test_functions_classes_and_ids_of_a_module(name: str, shape: tuple[int, ...]) -> None:
    spec = describe(f"{MODULE}:{name}", "", CARE)
    assert spec.observations[0].shape == shape
    assert spec.environment == f"{MODULE}:{name}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mak", r"expected 'mak' to be a function or a class in .*odd_environments.py, .*did you mean make\?"),
        ("number", "it is neither"),
        ("make_nothing", "expected a Gymnasium environment, got None, which has no observation_space, action_space"),
        ("odd/Nothing-v0", "cannot make .*Nothing"),
        ('make{"sise":3}', r"cannot make .* with {\"sise\":3}: TypeError: .*unexpected keyword argument 'sise'"),
        ('Sized{"height":1}', r"AssertionError: too small \(.*odd_environments.py, line \d+\)"),
        ('odd/Sized-v0{"sise":3}', "unexpected keyword argument 'sise'"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        describe(f"{MODULE}:{name}", "", CARE)


def test_keyword_arguments_reach_gymnasiums_own_environments() -> None:
    spec = describe('FrozenLake-v1{"map_name":"8x8"}', "")
    assert spec.observations[0].num_values == (64,)
    assert spec.environment == 'FrozenLake-v1{"map_name":"8x8"}'
    with pytest.raises(SpecError, match=r"cannot make 'FrozenLake-v1' with .*KeyError: '9x9'"):
        describe('FrozenLake-v1{"map_name":"9x9"}', "")


def test_keyword_arguments_of_our_own_tasks_are_their_options() -> None:
    assert describe('seedbed/MemoryChain-v0{"length":12}', "").environment == "seedbed/MemoryChain-v0,length=12"
    with pytest.raises(SpecError, match="expected options out of length, got 'lenght=12'"):
        describe('seedbed/MemoryChain-v0{"lenght":12}', "")


def test_modules_are_imported_only_where_they_are_trusted(folder: Path) -> None:
    """The name that was typed, and no other; nothing over the wire."""
    (folder / "tempting_by_name.py").write_text("import sys\nsys.imported_tempting = True\n")
    other = Trust(typed=frozenset({"other:make"}), start_directory=folder)
    for trust in (Trust(start_directory=folder), other, WIRE):
        with pytest.raises(UsageError, match="would import a module"):
            describe("tempting_by_name:make", "", Care(trust=trust))
    assert "tempting_by_name" not in sys.modules
    named = Trust(typed=frozenset({"tempting_by_name:make"}), start_directory=folder)
    with pytest.raises(SpecError, match="expected 'make' to be a function"):
        describe("tempting_by_name:make", "", Care(trust=named))


@pytest.mark.parametrize("isolate", [False, True])
def test_the_start_directory_is_looked_at_last(folder: Path, isolate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is the working directory of a process of its own."""
    monkeypatch.chdir(folder)
    source = "import gymnasium\ndef make():\n    return gymnasium.make('CartPole-v1')\n"
    (folder / "my_only_env.py").write_text(source)
    (folder / "random.py").write_text(source)
    care = Care(trust=Trust(allow_import=True, start_directory=folder), isolate=isolate)
    assert describe("my_only_env:make", "", care).num_actions == 2
    with pytest.raises(
        UsageError, match=r"expected .*random\.py, but .*random\.py has the same name and is found first"
    ):
        describe("random:make", "", care)


def test_a_module_that_cannot_be_imported_says_where(folder: Path) -> None:
    (folder / "my_broken_env.py").write_text("import gymnasium\n\nraise OSError('no engine')\n")
    care = Care(trust=Trust(allow_import=True, start_directory=folder))
    with pytest.raises(UsageError, match=r"my_broken_env failed in .*my_broken_env\.py, line 3: OSError: no engine"):
        describe("my_broken_env:make", "", care)


def test_a_factory_that_lacks_a_package_says_so(folder: Path) -> None:
    (folder / "my_lacking_env.py").write_text("def make():\n    import not_there_at_all\n")
    care = Care(trust=Trust(allow_import=True, start_directory=folder))
    with pytest.raises(MissingExtraError, match="No module named 'not_there_at_all'"):
        describe("my_lacking_env:make", "", care)


def _bring(folder: Path, monkeypatch: pytest.MonkeyPatch, entry_points: str) -> None:
    """A distribution with these entry points, as if it were installed."""
    info = folder / "brought-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(folder)


def test_ids_that_gymnasium_does_not_know_are_registered_by_entry_points(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As MinAtar brings them. One that is broken does not stand in the way of another; a server calls none."""
    (folder / "brought_ids.py").write_text(
        f"import gymnasium\ndef bring():\n    gymnasium.register('Brought/Here-v0', '{MODULE}:Sound')\n"
        f"def bring_bare():\n    gymnasium.register('Bare-v0', '{MODULE}:Sound')\n"
    )
    _bring(
        folder,
        monkeypatch,
        "[gymnasium.envs]\nAbroken = not_there:bring\nBrought = brought_ids:bring\n__root__ = brought_ids:bring_bare\n",
    )
    with pytest.raises(SpecError, match="Namespace Brought not found"):
        describe("Brought/Here-v0", "", Care(trust=WIRE))
    assert describe("Brought/Here-v0", "").environment == "Brought/Here-v0"
    assert describe("Bare-v0", "").environment == "Bare-v0"
    with pytest.raises(SpecError, match="Namespace Elsewhere not found"):
        describe("Elsewhere/Here-v0", "")
    assert "Abroken = not_there:bring of gymnasium.envs failed: ModuleNotFoundError" in caplog.text


@pytest.mark.parametrize("name", ["brought", "Brought/Grid"])
def test_distributions_bring_environments_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _bring(folder, monkeypatch, f"[seedbed.environments]\n{name} = {MODULE}:make\n")
    spec = describe(f'{name}{{"size":4}}', "")
    assert (spec.environment, spec.observations[0].shape) == (f'{name}{{"size":4}}', (40, 16, 3))
    with pytest.raises((SpecError, MissingExtraError)):
        describe(name, "", Care(trust=WIRE))


def test_a_window_is_no_part_of_the_contract(folder: Path) -> None:
    (folder / "shown_env.py").write_text(
        f"from {MODULE} import Sound\n"
        "modes = []\ndef make(render_mode=None):\n    modes.append(render_mode)\n    return Sound()\n"
    )
    trust = Trust(allow_import=True, start_directory=folder)
    assert make("shown_env:make", {}, trust, "human")[1] == make("shown_env:make", {}, trust)[1] == "shown_env:make"
    assert sys.modules["shown_env"].modes == ["human", None]
    with pytest.raises(SpecError, match=r"seedbed/Catch-v0 has no picture"):
        builder("seedbed/Catch-v0", "", trust, Asides(render="human"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("cartpole", r"^unknown environment 'cartpole': did you mean CartPole-v1\?$"),
        ("ACROBOT", r"^unknown environment 'ACROBOT': did you mean Acrobot-v1\?$"),
        ("minesweep", r"^unknown environment 'minesweep': one that a module makes is minesweep:NAME$"),
    ],
)
def test_a_word_that_is_no_game(word: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ale_py")
    (tmp_path / "minesweep.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=message):
        builder(word, "modern")(0, 0)
