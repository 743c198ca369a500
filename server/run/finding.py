"""Checkpoints by the paths that people type: a run directory, or one checkpoint folder in it."""

from __future__ import annotations

from pathlib import Path

from seedbed.common.errors import ConfigError
from seedbed.server.run.checkpoint import Checkpoint, find_best, load, load_newest
from seedbed.server.run.directory import CHECKPOINTS_FOLDER, CONFIG_FILE, RunFile, read_run_file


def find_checkpoint(path: Path, *, best: bool = False) -> tuple[RunFile, Checkpoint]:
    """The run and the checkpoint that a path means: a run directory, its checkpoints/, or one checkpoint.

    Args:
        path: as typed.
        best: of a run, that of its best cohort instead of the newest.

    Raises:
        ConfigError: it is no run, or there is no such checkpoint.
    """
    above = path.absolute().parents
    folders = [path]
    if path.name == CHECKPOINTS_FOLDER:
        folders += above[:1]
    elif path.name.startswith("checkpoint-"):
        folders += above[:2]
    run_folder = next((folder for folder in folders if (folder / CONFIG_FILE).exists()), None)
    if run_folder is None:
        raise ConfigError(f"expected a run directory or a checkpoint in one, got {path} (no {CONFIG_FILE} there)")
    checkpoints = run_folder / CHECKPOINTS_FOLDER
    if path.name.startswith("checkpoint-"):
        checkpoint: Checkpoint | None = load(path)
    elif best:
        found = find_best(checkpoints)
        if found is None:
            raise ConfigError(f"expected a best checkpoint in {checkpoints}, no cohort of episodes was complete yet")
        checkpoint = load(found[0])
    else:
        checkpoint = load_newest(checkpoints)
    if checkpoint is None:
        raise ConfigError(f"expected a checkpoint in {checkpoints}, there is none yet")
    return read_run_file(run_folder / CONFIG_FILE), checkpoint
