"""Workflows, issue templates and releases: what they name exists."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML, of the extra `dev`, is not installed")

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def jobs() -> list[tuple[str, dict[str, Any]]]:
    """(workflow/job, job) of all."""
    return [
        (f"{path.stem}/{name}", job)
        for path in WORKFLOWS
        for name, job in yaml.safe_load(path.read_text())["jobs"].items()
    ]


def commands() -> list[tuple[str, str]]:
    """(workflow/job, command) of every step."""
    return [(name, step["run"]) for name, job in jobs() for step in job.get("steps", ()) if "run" in step]


def test_there_is_one_for_each_thing() -> None:
    assert {path.stem for path in WORKFLOWS} == {"check", "docs", "images", "release", "test", "wheel"}


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for _, command in commands() for name in re.findall(r"\bmake ((?:[a-z-]+ )*[a-z-]+)", command)}
    named = {word for words in named for word in words.split()}
    assert {"check", "test", "test-lowest", "docs-site", "wheel"} <= named <= targets


def test_files_exist() -> None:
    """Paths of the repository, by the look of them; those that are made on the way are made by a target."""
    made = ("build/", "dist/", ".venv/", "notes.md")
    for name, command in commands():
        for word in re.findall(r"[\w./-]+\.(?:py|ipynb|txt|md|toml|yml)\b", command):
            assert word.startswith(made) or word in made or (ROOT / word).exists(), f"{name}: {word}"
    for path in WORKFLOWS:
        for used in re.findall(r"uses: \./(\S+)", path.read_text()):
            assert (ROOT / used).exists()


def test_every_job_has_a_limit_and_no_more_rights_than_it_needs() -> None:
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, path.name
        for name, job in workflow["jobs"].items():
            assert "uses" in job or job["timeout-minutes"] <= 60, f"{path.name}: {name}"
            for step in job.get("steps", ()):
                assert re.fullmatch(r"[\w./-]+@v\d+", step.get("uses", "x/y@v1")), f"{path.name}: {step}"


def test_every_python_that_is_promised_is_tested() -> None:
    tested = dict(jobs())["test/test"]["strategy"]["matrix"]["python"]
    assert f">={tested[0]}" == PROJECT["requires-python"]
    classified = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
    assert tested == classified


def test_extras_that_are_installed_exist() -> None:
    for name, command in commands():
        for extras in re.findall(r"\[([a-z,]+)\]", command):
            assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"]), name


def test_issue_templates_are_forms() -> None:
    templates = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(templates) == 3
    for path in templates:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= set(form)
        assert len({part["id"] for part in form["body"] if part["type"] != "markdown"}) >= 2


class TestLowestVersions:
    def test_every_requirement_has_a_lower_bound_and_comes_out_pinned(self) -> None:
        lowest = load(".ci/lowest.py").lowest(["server", "atari"])
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lowest)
        assert {line.partition("==")[0] for line in lowest} >= {"torch", "numpy", "grpcio", "gymnasium", "ale-py"}

    def test_an_unknown_extra_is_told(self) -> None:
        with pytest.raises(SystemExit, match=r"expected an extra out of .*, got nonsense"):
            load(".ci/lowest.py").lowest(["nonsense"])


class TestReleaseNotes:
    TEXT = "# Changelog\n\n## [0.2.0] - 2027-01-31\n\n### Added\n\n- this\n\n## [0.1.0] - unreleased\n\n- that\n"

    def test_they_are_the_section_of_the_version(self) -> None:
        assert load("docs/release_notes.py").notes(self.TEXT, "0.2.0") == "### Added\n\n- this\n"

    def test_what_is_not_released_has_none(self) -> None:
        notes = load("docs/release_notes.py").notes
        with pytest.raises(SystemExit, match=r"expected a section \[0.3.0\]"):
            notes(self.TEXT, "0.3.0")
        with pytest.raises(SystemExit, match=r"expected the date of \[0.1.0\] in CHANGELOG.md, got 'unreleased'"):
            notes(self.TEXT, "0.1.0")

    def test_the_command_says_what_is_missing(self) -> None:
        done = subprocess.run(
            [sys.executable, ROOT / "docs" / "release_notes.py"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (1, "expected one version\n")
