"""Names of plug-ins: what each finds, and what may be imported for whom."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seedbed.common import plugins
from seedbed.common.errors import UsageError
from seedbed.common.plugins import NOTHING_TYPED, WIRE, Trust, find, names, without_start_directories

BUILT_IN = {"json": "json:loads"}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "_imported", {})
    monkeypatch.setattr(plugins, "_start_directories", set())
    plugins._warn_of_hidden.cache_clear()
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def brings(folder: Path, distribution: str, *points: str, group: str = "torsos") -> None:
    """A distribution with entry points, installed into a folder."""
    info = folder / f"{distribution}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[seedbed.{group}]\n" + "\n".join(points) + "\n")


def typed(name: str, folder: Path) -> Trust:
    return Trust(typed=frozenset([name]), start_directory=folder)


def test_a_built_in_name_is_found_whatever_is_trusted() -> None:
    import json

    for trust in (NOTHING_TYPED, WIRE):
        assert find("torsos", "json", BUILT_IN, trust) is json.loads


def test_an_installed_name_is_found_but_not_for_the_wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brings(tmp_path, "orchard", "tree = grown_tree:Tree.small")
    (tmp_path / "grown_tree.py").write_text("class Tree:\n    small = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find("torsos", "tree", BUILT_IN, NOTHING_TYPED) == 7
    with pytest.raises(UsageError, match="expected --torso to be one of json"):
        find("torsos", "tree", BUILT_IN, WIRE)
    with pytest.raises(UsageError, match=r"--torso to be one of json, tree, or MODULE:ATTR, got 'tre' .did you mean"):
        find("torsos", "tre", BUILT_IN, NOTHING_TYPED)
    assert [(one.name, one.distribution) for one in names("torsos", BUILT_IN)] == [
        ("json", None),
        ("tree", "orchard 1.2"),
    ]
    assert "tree" not in {one.name for one in names("cores", {})}


def test_a_built_in_wins_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    brings(tmp_path, "orchard", "json = never_imported:X")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        find("torsos", "json", BUILT_IN, NOTHING_TYPED)
    [told] = caplog.messages
    assert told == "--torso json is seedbed's own; the one of orchard 1.2 is --torso never_imported:X"
    assert [one.hidden for one in names("torsos", BUILT_IN)] == [False, True]
    assert "never_imported" not in sys.modules


def test_two_distributions_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brings(tmp_path, "orchard", "tree = a:X")
    brings(tmp_path, "forest", "tree = b:X")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"expected one installed --torso tree, got those of .* and .*: remove one"):
        find("torsos", "tree", BUILT_IN, NOTHING_TYPED)


def test_a_module_is_imported_only_if_its_name_was_typed(tmp_path: Path) -> None:
    (tmp_path / "mine_a.py").write_text("def f(): return 3\n")
    for trust in (NOTHING_TYPED, WIRE, typed("mine_a:g", tmp_path), Trust(start_directory=tmp_path)):
        with pytest.raises(UsageError, match="--core mine_a:f would import a module that a file names and nobody"):
            find("cores", "mine_a:f", {}, trust)
    assert "mine_a" not in sys.modules
    assert find("cores", "mine_a:f", {}, typed("mine_a:f", tmp_path))() == 3
    assert find("cores", "mine_a:f", {}, NOTHING_TYPED)() == 3, "it was imported in this process for one who may"
    with pytest.raises(UsageError):
        find("torsos", "mine_a:f", {}, NOTHING_TYPED)


def test_allow_import_says_it_for_all(tmp_path: Path) -> None:
    (tmp_path / "mine_b.py").write_text("x = 5\n")
    assert find("cores", "mine_b:x", {}, Trust(allow_import=True, start_directory=tmp_path)) == 5


def test_the_start_directory_comes_last_and_is_not_handed_to_frontends(tmp_path: Path) -> None:
    (tmp_path / "mine_c.py").write_text("x = 5\n")
    before = list(sys.path)
    find("cores", "mine_c:x", {}, typed("mine_c:x", tmp_path))
    assert sys.path == [*before, str(tmp_path)]
    with without_start_directories():
        assert sys.path == before
    assert sys.path == [*before, str(tmp_path)]


@pytest.mark.parametrize("file", ["json.py", "json/__init__.py"])
def test_a_module_that_another_one_hides_is_refused_with_both_paths(tmp_path: Path, file: str) -> None:
    import json

    mine = tmp_path / file
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("x = 5\n")
    with pytest.raises(UsageError) as caught:
        find("cores", "json:x", {}, typed("json:x", tmp_path))
    assert str(mine) in str(caught.value)
    assert str(json.__file__) in str(caught.value)


def test_a_module_that_is_installed_from_the_start_directory_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_d").mkdir()
    (tmp_path / "mine_d" / "__init__.py").write_text("x = 5\n")
    link = tmp_path / "elsewhere"
    link.symlink_to(tmp_path)
    monkeypatch.syspath_prepend(link)
    assert find("cores", "mine_d:x", {}, typed("mine_d:x", tmp_path)) == 5


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("mine_e:x", "", "expected 'x' in .*mine_e.py, which has none"),
        ("mine_f:x", "def g():\n    return 1 / 0\ng()\n", r"importing mine_f failed in .*mine_f.py, line 2: ZeroDiv"),
        ("mine_g:x", "import not_there\n", r"importing mine_g failed in .*mine_g.py, line 1: .*'not_there'"),
        ("mine_i:x", "import sys\nsys.exit(3)\n", r"importing mine_i failed in .*mine_i.py, line 2: SystemExit: 3"),
        ("mine_h:x", "def f(:\n", r"importing mine_h failed: SyntaxError: .*mine_h.py, line 1"),
    ],
)
def test_what_goes_wrong_is_told_in_a_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / f"{name[:-2]}.py").write_text(text)
    with pytest.raises(UsageError, match=f"^--core {name}: {message}"):
        find("cores", name, {}, typed(name, tmp_path))


def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--core nowhere:x: importing nowhere failed: .*No module named 'nowhere'"):
        find("cores", "nowhere:x", {}, typed("nowhere:x", tmp_path))
    with pytest.raises(UsageError, match=f"neither installed nor in .*{tmp_path}.*: go where it lies"):
        find("cores", "nowhere:x", {}, typed("nowhere:x", tmp_path))


@pytest.mark.parametrize("module", ["mine_j.py", "./mine_j.py", "folder/mine_j.py"])
def test_a_file_in_the_place_of_a_module(tmp_path: Path, module: str) -> None:
    (tmp_path / "mine_j.py").write_text("x = 1\n")
    with pytest.raises(UsageError, match="; expected a module as Python imports it, mine_j:x, in the folder of its"):
        find("cores", f"{module}:x", {}, typed(f"{module}:x", tmp_path))


def test_a_name_in_capitals_is_recognised() -> None:
    with pytest.raises(UsageError, match=r"got 'LSTM' \(did you mean lstm\?\)"):
        find("cores", "LSTM", {"lstm": "a:b"})


@pytest.mark.parametrize(
    ("trust", "name", "said"),
    [
        (Trust(typed=frozenset(["a:b"]), start_directory=Path("/x")), "a:b", ["--allow-import", "--import-from=/x"]),
        (Trust(typed=frozenset(["a:b"]), start_directory=Path("/x")), "a:c", []),
        (Trust(allow_import=True), "a:c", ["--allow-import"]),
        (Trust(allow_import=True), "CartPole-v1", []),
    ],
)
def test_what_a_child_process_is_told(trust: Trust, name: str, said: Any) -> None:
    assert trust.to_argv(name) == said


def test_spawned_processes_look_into_no_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until they have this one's path; what users' programs start later looks where it likes."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "struct.py").write_text("print('found')\n")
    program = [sys.executable, "-c", "import struct"]
    assert subprocess.check_output(program) == b"found\n"
    with without_start_directories():
        assert subprocess.check_output(program) == b""
    assert subprocess.check_output(program) == b"found\n"
