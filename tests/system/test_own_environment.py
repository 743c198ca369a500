"""The first hour with an environment of one's own, as docs/environments.md has it: its file, and its commands."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.system.processes import Program

pytest.importorskip("gymnasium")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "environments.md"
SMALL = ("--num-envs", "8", "--num-clients", "1", "--batch-size", "4", "--unroll-length", "10", "--device", "cpu")


WITHOUT_WORKING_DIRECTORY = "import sys; sys.path.remove('')"
"""As the installed command has it; `python -c` would look there first."""


def blocks(language: str) -> list[str]:
    """The page's blocks in a language; "" for commands."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def commands() -> list[list[str]]:
    """All that stand in blocks of their own, without `seedbed`."""
    return [shlex.split(line)[1:] for block in blocks("") for line in block.splitlines()]


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the page's file, and some that hide modules of others if they are looked at first."""
    (tmp_path / "my_env.py").write_text(*blocks("python"))
    for name in ("random", "signal", "struct", "gymnasium"):
        (tmp_path / f"{name}.py").write_text("raise OSError('nobody means this one')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, what was printed, and the log."""
    with Program(*arguments, prelude=WITHOUT_WORKING_DIRECTORY) as program:
        code = program.wait()
        return code, program.stdout, program.stderr


def test_it_is_checked(beside: Path) -> None:
    checks = [command for command in commands() if command[0] == "check"]
    assert len(checks) == 2
    for command in checks:
        code, page, log = run(*command, "--steps", "200")
        assert code == 0, log
        assert "same seed, same episodes" in page


@pytest.mark.slow
def test_it_is_trained_resumed_evaluated_and_not_imported_for_a_file_alone(beside: Path) -> None:
    first, again, evaluation = (command for command in commands() if command[0] != "check")
    short = {"10000": "400", "20000": "800"}
    code, _, log = run(*(short.get(word, word) for word in first), *SMALL)
    assert code == 0, log
    assert "400 agent steps" in log
    run_dir = evaluation[evaluation.index("--checkpoint") + 1]
    code, _, log = run("train", "--run-dir", run_dir, "--max-steps", "800")
    assert code == 2, log
    assert "my_env:Corridor would import a module" in log
    code, _, log = run(*(short.get(word, word) for word in again), *SMALL)
    assert code == 0, log
    assert "resuming runs/my_env-Corridor at" in log
    code, score, log = run(*evaluation)
    assert code == 0, log
    assert "my_env:Corridor@100steps: " in score


def test_a_module_of_that_name_elsewhere_is_not_taken_for_it(beside: Path) -> None:
    shutil.move(beside / "my_env.py", beside / "statistics.py")
    code, _, log = run("check", "statistics:Corridor")
    assert code == 2
    assert re.search(
        rf"expected {beside}/statistics\.py, but .*statistics\.py has the same name and is found first", log
    )
