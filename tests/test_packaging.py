"""What an install from a wheel gets: an editable install hides a package that pyproject.toml forgets."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("api", "proto", "common", "env_client", "server")
"""`api` is the package `seedbed` itself."""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of all files in a wheel, built from a copy: setuptools leaves traces beside what it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        (source / file).write_bytes((ROOT / file).read_bytes())
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.*"):
            if "__pycache__" not in path.parts:
                copy = source / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    done = subprocess.run([*command, "--wheel-dir", str(out), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_packages_are_those_of_the_tree(project: dict[str, Any]) -> None:
    inits = [path for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")]
    tree = {".".join(place_of(path).parent.parts) for path in inits}
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(tree)


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_wheel_holds_every_module_and_the_protocol(wheel: set[str]) -> None:
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    expected = {str(place_of(path)) for path in sources}
    expected |= {"seedbed/proto/seedbed.proto", "seedbed/proto/seedbed_pb2.pyi", "seedbed/py.typed"}
    assert not expected - wheel


def test_wheel_puts_nothing_outside_seedbed(wheel: set[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert tops == {"seedbed", f"seedbed-{version('seedbed')}.dist-info"}


def test_console_script_exists() -> None:
    (script,) = entry_points(group="console_scripts", name="seedbed")
    assert callable(script.load())


def test_version_is_that_of_the_changelog(project: dict[str, Any]) -> None:
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == project["project"]["version"] == version("seedbed")


def test_constraints_pin_what_is_required(project: dict[str, Any]) -> None:
    """Every direct dependency is pinned, none to a local build or path."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin) for pin in pins)
    pinned = {normalised(pin.partition("==")[0]) for pin in pins}
    extras = project["project"]["optional-dependencies"].values()
    required = [*project["project"]["dependencies"], *(line for lines in extras for line in lines)]
    names = {normalised(re.match(r"[A-Za-z0-9._-]+", line)[0]) for line in required}  # type: ignore[index]
    assert not names - pinned - {"seedbed"}


def place_of(file: Path) -> Path:
    """Where an installed seedbed has a file."""
    place = file.relative_to(ROOT)
    return Path("seedbed", *place.parts[1:] if place.parts[0] == "api" else place.parts)


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
