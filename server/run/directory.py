"""Run directory: `config.json`, `metrics.jsonl`, `episodes.jsonl`, tracker files, `checkpoints/`, `log` and `lock`.

`config.json` suffices to repeat the run: `seedbed train --config RUN/config.json`. A directory is locked before
anything in it is read or written. A new one is made and locked when all else that can fail has not failed, so a start
that fails leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedbed.common.errors import ConfigError, RunInUseError, SpecError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.run.lock import LOCK_FILE, PATIENCE_S, locked
from seedbed.server.shared.reading import read_regular

CONFIG_FILE = "config.json"
CHECKPOINTS_FOLDER = "checkpoints"
METRICS_FILE = "metrics.jsonl"
EPISODES_FILE, OLDER_EPISODES_FILE = "episodes.jsonl", "episodes.1.jsonl"
LOG_FILE = "log"

_FORMAT = 2
_MAX_CONFIG_BYTES = 16 << 20


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
        data = json.loads(read_regular(path, at_most=_MAX_CONFIG_BYTES))
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
    except (ConfigError, SpecError) as error:
        raise ConfigError(f"{path}, written by seedbed {data.get('seedbed_version')}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"expected the config.json of a run at {path}, got {error!r}") from error


class RunDirectory:
    """The folder of one run.

    Attributes:
        is_locked: other processes are kept out.
    """

    def __init__(self, path: Path) -> None:
        self.is_locked = False
        self.path = path
        self.config_file = path / CONFIG_FILE
        self.checkpoints = path / CHECKPOINTS_FOLDER
        self._made: list[Path] = []
        self._found: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """For people."""
        return self.path.name

    @property
    def exists(self) -> bool:
        """Whether there is such a folder, with a run in it or not."""
        return self.path.exists()

    @contextlib.contextmanager
    def lock(self, *, patience_s: float = PATIENCE_S, gives_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Keeps other processes out of a directory, which exists, for as long as the block lasts; see `lock.locked`.

        Raises:
            RunInUseError: another process holds it and stays, or `gives_up` said so.
            ConfigError: nothing can be written there.
        """
        with locked(self.path, patience_s=patience_s, gives_up=gives_up):
            self._found = frozenset(path.name for path in self.path.iterdir())
            self.is_locked = True
            try:
                yield
            finally:
                self.is_locked = False

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Makes a directory that was not there, and locks it.

        Raises:
            RunInUseError: another process has just made a run of it.
            ConfigError: it cannot be made.
        """
        try:
            self._made = [path for path in (self.path, *self.path.absolute().parents) if not path.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"expected a run directory that can be made, got {self.path} ({error})") from error
        with self.lock(patience_s=0):
            if self.has_run:
                raise RunInUseError(f"expected {self.path} to be new, another process has just begun a run there")
            yield

    @property
    def has_run(self) -> bool:
        """Whether a run has begun here: something was measured or saved. What a start that failed left is none."""
        metrics = self.path / METRICS_FILE
        saved = self.checkpoints.is_dir() and any(self.checkpoints.glob("checkpoint-*"))
        return saved or (metrics.is_file() and metrics.stat().st_size > 0)

    def read(self) -> RunFile | None:
        """The contents of its config.json, if there is one."""
        return read_run_file(self.config_file) if self.config_file.exists() else None

    def find_run(self) -> RunFile | None:
        """The run that has begun here, if one has.

        Raises:
            ConfigError: one has, and its config.json is missing or not one of ours.
        """
        return read_run_file(self.config_file) if self.has_run else None

    def write(self, run: RunFile) -> None:
        """Records how this run is made.

        Raises:
            ConfigError: it cannot be written.
        """
        text = json.dumps(run.to_json(), indent=2) + "\n"
        draft = self.config_file.with_suffix(".tmp")
        try:
            if self.config_file.exists() and read_regular(self.config_file, at_most=_MAX_CONFIG_BYTES) == text.encode():
                return  # nothing is new, and the disk may be full
            self.path.mkdir(parents=True, exist_ok=True)
            draft.write_text(text)
            draft.replace(self.config_file)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise ConfigError(f"expected a run directory to write into, got {self.path} ({error.strerror})") from error

    def forget(self) -> None:
        """Removes what a start has left that failed before its first step: all of a new directory, or all but its lock.

        Only under the lock, and only of a run that is new. Of several learners the first removes the folders of the
        others too, who may be about to do so themselves.
        """
        for path in self.path.iterdir() if self.path.exists() else ():
            if path.name not in self._found and (path.name in _OURS or path.name.startswith(_EVENTS)):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if self._made:
            (self.path / LOCK_FILE).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody has put something there
                for path in self._made:
                    path.rmdir()


_OURS = (CONFIG_FILE, METRICS_FILE, EPISODES_FILE, CHECKPOINTS_FOLDER, LOG_FILE, f"{LOG_FILE}.1", "replay", "replicas")
_EVENTS = "events.out.tfevents."
