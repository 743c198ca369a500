"""What a run leaves on disk: `config.json`, `metrics.jsonl`, TensorBoard events and `checkpoints/`.

`config.json` suffices to repeat the run: `seedbed train --config RUN/config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedbed.common.errors import ConfigError
from seedbed.common.specs import EnvironmentSpec

CONFIG_FILE = "config.json"
CHECKPOINTS_FOLDER = "checkpoints"

_FORMAT = 2


@dataclass(frozen=True, slots=True)
class RunFile:
    """The contents of `config.json`.

    Attributes:
        config: of the run, and how it was last started, in JSON's form; `training/resolve.py` reads it, since an
            algorithm's own options are among it.
        spec: of its environment.
        version: of the seedbed that wrote the file.
    """

    config: Mapping[str, Any]
    spec: EnvironmentSpec
    version: str

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {
            "format": _FORMAT,
            "seedbed_version": self.version,
            "spec": self.spec.to_json(),
            "config": self.config,
        }


def read_run_file(path: Path) -> RunFile:
    """Reads a `config.json`.

    Raises:
        ConfigError: it is missing or not one of ours.
    """
    try:
        data = json.loads(path.read_text())
        if data["format"] != _FORMAT:
            raise ConfigError(
                f"expected format {_FORMAT}, got {data['format']}: such a run cannot go on, start a new one in another "
                "--run-dir"
            )
        return RunFile(
            config=dict(data["config"]),
            spec=EnvironmentSpec.from_json(data["spec"]),
            version=data["seedbed_version"],
        )
    except ConfigError as error:
        raise ConfigError(f"{path}, written by seedbed {data.get('seedbed_version')}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"expected the config.json of a run at {path}, got {error!r}") from error


class RunDirectory:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / CONFIG_FILE
        self.checkpoints = path / CHECKPOINTS_FOLDER

    @property
    def name(self) -> str:
        """For people."""
        return self.path.name

    def read(self) -> RunFile | None:
        """The run that lives here, if one does."""
        return read_run_file(self.config_file) if self.config_file.exists() else None

    def write(self, run: RunFile) -> None:
        """Records how this run is made."""
        self.path.mkdir(parents=True, exist_ok=True)
        draft = self.config_file.with_suffix(".tmp")
        draft.write_text(json.dumps(run.to_json(), indent=2) + "\n")
        draft.replace(self.config_file)
