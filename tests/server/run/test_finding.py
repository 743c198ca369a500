"""Paths that mean a checkpoint, and those that mean none although a run is near."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedbed.common.errors import ConfigError
from seedbed.server.run.finding import find_checkpoint


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that are looked for; what is found is the path itself."""
    run = tmp_path / "run"
    (run / "checkpoints" / "checkpoint-7").mkdir(parents=True)
    (run / "config.json").touch()
    finding = "seedbed.server.run.finding"
    monkeypatch.setattr(f"{finding}.read_run_file", lambda path: path)
    monkeypatch.setattr(f"{finding}.load", lambda path: path)
    monkeypatch.setattr(f"{finding}.load_newest", lambda path: path / "newest")
    return run


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".", "checkpoints/newest"),
        ("checkpoints", "checkpoints/newest"),
        ("checkpoints/checkpoint-7", "checkpoints/checkpoint-7"),
    ],
)
def test_a_run_its_checkpoints_and_one_of_them(run: Path, path: str, found: str) -> None:
    config, checkpoint = find_checkpoint(run / path)
    assert config == run / "config.json"
    assert checkpoint == run / found


@pytest.mark.parametrize("path", ["nothing", "config.json", "checkpoints/nothing", "checkpoints/checkpoint-7/tensors"])
def test_other_paths_in_a_run_are_no_run(run: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="expected a run directory or a checkpoint in one"):
        find_checkpoint(run / path)
    monkeypatch.chdir(run)
    with pytest.raises(ConfigError, match="expected a run directory or a checkpoint in one"):
        find_checkpoint(Path(path))
