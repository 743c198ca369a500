"""A wheel, installed far from the checkout: nothing that runs needs what only a checkout has."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "api", "proto", "common", "env_client", "server")


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SEEDBED"))}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment that has the wheel, and what this one has beside seedbed."""
    source, out, home = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "home"))
    for name in _SOURCES:
        run("cp", "-r", ROOT / name, source, cwd=source)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source, cwd=out)
    venv.create(home, with_pip=False, symlinks=True)
    (wheel,) = out.glob("*.whl")
    run(*pip, "--python", home / "bin" / "python", "install", "--no-deps", wheel, cwd=home)
    (packages,) = home.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]  # as plain folders: no editable install
    (packages / "others.pth").write_text("\n".join(others) + "\n")
    return home / "bin"


@pytest.mark.slow
@pytest.mark.system
def test_it_trains_from_another_folder_and_says_where_it_is(installed: Path, tmp_path: Path) -> None:
    place = run(installed / "python", "-c", "import seedbed.server; print(seedbed.server.__path__[0])", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(installed.parent)
    seedbed = installed / "seedbed"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run(seedbed, "--version", cwd=tmp_path).strip() == f"seedbed {version}"
    small = ("--num-envs", "8", "--num-clients", "1", "--max-steps", "2000", "--device", "cpu")
    said = run(seedbed, "train", "--preset", "catch", *small, "--run-dir", "run", cwd=tmp_path)
    assert "reached 2,000 agent steps" in said
    assert "4 episodes" in run(seedbed, "eval", "run", "--episodes", "4", cwd=tmp_path)
    assert "pong" in run(seedbed, "list", cwd=tmp_path)
