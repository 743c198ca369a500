"""The page of the first hour, followed as a stranger would: every command of it, in order, in an empty folder."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "first-hour.md").read_text()
EXPORT = "seedbed export "


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("follow", ROOT / "docs" / "follow.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_are_written_and_commands_run_until_one_fails(tmp_path: Path) -> None:
    page = "```python\n# a.py\nprint(1 + 1)\n```\n```\nnot this\n```\n```sh\npython a.py\nfalse\necho never\n```\n"
    text = load().script(page, tmp_path)
    assert (tmp_path / "a.py").read_text() == "# a.py\nprint(1 + 1)\n"
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "$ python a.py\n2\n$ false\n")


def test_its_commands_are_ones_that_exist(tmp_path: Path) -> None:
    from seedbed.common.cli import VERBS

    words = [line.split() for line in load().script(PAGE, tmp_path).splitlines() if line.startswith("seedbed ")]
    assert {verb for _, verb, *_ in words} >= {
        "doctor",
        "list",
        "train",
        "eval",
        "plot",
        "check",
        "server",
        "env",
        "export",
    }
    assert {verb for _, verb, *_ in words} <= set(VERBS)
    compile((tmp_path / "my_env.py").read_text(), "my_env.py", "exec")


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(900)
def test_a_stranger_gets_through_it(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    page = PAGE
    if any(find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")):  # the extra `export`
        start = page.index("```sh\n" + EXPORT)
        page = page[:start] + page[page.index("```\n", start + 5) :]
    (tmp_path / "page.md").write_text(page)
    folder = tmp_path / "hour"
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "follow.py", tmp_path / "page.md", folder],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=880,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "somebody listens on 7790" in done.stdout, "the doctor has found the server"
    assert "reached 3,000 agent steps" in done.stdout, "the clients' steps counted"
    assert (folder / "runs" / "catch" / "learning_curve.png").exists()
    assert float(done.stdout.rpartition("return ")[2].split()[0]) > 0, "its policy walks to the door"
    if EXPORT in page:
        assert (folder / "runs" / "corridor" / "policy.onnx").exists()
