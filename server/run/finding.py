"""Finding of a run and a checkpoint from the path that a person gives."""

from __future__ import annotations

from pathlib import Path

from seedbed.common.errors import ConfigError
from seedbed.server.run.checkpoint import Checkpoint, load, load_newest
from seedbed.server.run.directory import CHECKPOINTS_FOLDER, CONFIG_FILE, RunFile, read_run_file


def find_checkpoint(path: Path) -> tuple[RunFile, Checkpoint]:
    """The run and the checkpoint that a path means: a run directory, its checkpoints/, or one checkpoint.

    Raises:
        ConfigError: there is no run, no checkpoint yet, or none that is complete.
        VersionError: a newer seedbed wrote it.
    """
    folders = [path, *path.absolute().parents[:2]]
    run_folder = next((folder for folder in folders if (folder / CONFIG_FILE).exists()), None)
    if run_folder is None:
        raise ConfigError(f"expected a run directory or a checkpoint in one, got {path} (no {CONFIG_FILE} there)")
    one = path.name.startswith("checkpoint-")
    checkpoint = load(path) if one else load_newest(run_folder / CHECKPOINTS_FOLDER)
    if checkpoint is None:
        raise ConfigError(f"expected a checkpoint in {run_folder / CHECKPOINTS_FOLDER}, there is none yet")
    return read_run_file(run_folder / CONFIG_FILE), checkpoint
