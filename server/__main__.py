"""`seedbed train`, `seedbed server`, `seedbed eval` and `seedbed plot`: reads the command line, then starts one.

Imports torch only inside a verb: spawned frontends import this module again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seedbed.common.errors import ConfigError, UsageError
from seedbed.common.logs import run_main
from seedbed.common.options import Layer, flatten, override, parse
from seedbed.server.options.config import ServerConfig
from seedbed.server.presets.registry import PRESETS, preset_values
from seedbed.server.run.directory import RunDirectory, read_run_file
from seedbed.server.run.resuming import check_unchanged, is_exposure, unexposed
from seedbed.server.training.local_clients import credential_options
from seedbed.server.training.stop_signal import StopSignal

_DESCRIPTIONS = {
    "train": "Train with local environment clients, over gRPC on loopback. Run again to resume.",
    "server": "Train with environment clients that connect from elsewhere (seedbed env --server HOST:PORT).",
}


def main(argv: Sequence[str]) -> int:
    """Runs `argv[0]`, a verb, and returns the exit code."""
    verb, *options = argv
    match verb:
        case "train" | "server":
            stop = StopSignal().catch()
            config, directory = resolve(options, prog=f"seedbed {verb}", description=_DESCRIPTIONS[verb])
            _check_credentials(config, local=verb == "train")
            from seedbed.server.verbs.train import train  # torch takes seconds: a wrong option is told before

            return train(config, directory, stop, local=verb == "train")
        case "eval":
            from seedbed.server.verbs import evaluate as evaluation

            return evaluation.main(options)
        case "plot":
            from seedbed.server.verbs import plot

            return plot.main(options)
    raise UsageError(f"expected train, server, eval or plot, got {verb!r}")


def resolve(argv: Sequence[str], *, prog: str, description: str = "") -> tuple[ServerConfig, RunDirectory]:
    """The configuration that a command line means: of a new run, or of the one it resumes.

    Raises:
        UsageError: wrong options.
        ConfigError: the run in --run-dir was made with other options, or may not be resumed.
    """
    line = _CommandLine(argv, prog, description)
    config = line.read(ServerConfig(), new=True)
    directory = RunDirectory(config.run.run_dir or Path("runs") / _run_name(config, line.preset))
    before = directory.read()
    if before is not None:
        if config.run.resume == "never":
            raise ConfigError(f"expected no run in {directory.path} with --resume never, there is one")
        config = line.read(unexposed(before.config), new=False)
        check_unchanged(before.config, config, directory.path)
    return override(config, {"run.run_dir": directory.path}), directory


class _CommandLine:
    """A command line, which can be read over different defaults.

    Attributes:
        preset: the name it gives, once read.
    """

    def __init__(self, argv: Sequence[str], prog: str, description: str) -> None:
        self.preset: str | None = None
        self._argv = argv
        self._prog = prog
        self._description = description
        self._has_config = False

    def read(self, start: ServerConfig, *, new: bool) -> ServerConfig:
        """The configuration it makes of `start`; a `new` run follows its algorithm even without a preset."""

        def implied(values: Mapping[str, Any]) -> Mapping[str, Any]:
            if new or self.preset is not None:
                return preset_values(self.preset, values.get("algorithm", start.algorithm))
            return {}

        layers = (
            Layer("--config", "FILE", "repeat a run: options from its config.json", self._read_config),
            Layer("--preset", "NAME", f"settings that work: {', '.join(PRESETS)}", self._read_preset),
        )
        return parse(
            ServerConfig,
            self._argv,
            prog=self._prog,
            description=self._description,
            defaults=start,
            layers=layers,
            implied=implied,
        )

    def _read_config(self, text: str) -> Mapping[str, Any]:
        self._has_config = True
        values = flatten(read_run_file(Path(text)).config)
        ours = ("run.run_dir", "run.resume")
        return {name: value for name, value in values.items() if name not in ours and not is_exposure(name)}

    def _read_preset(self, name: str) -> Mapping[str, Any]:
        if self._has_config:
            raise UsageError(f"expected --config or --preset, got both: a config.json is complete without {name!r}")
        self.preset = name
        return {}


def _check_credentials(config: ServerConfig, *, local: bool) -> None:
    """Before anything is written, or torch is imported."""
    serving = config.serving
    serving.credentials.verify(serving.host)
    if local:
        credential_options(serving.credentials)


def _run_name(config: ServerConfig, preset: str | None) -> str:
    """Where a run lives that was given no place: by preset or environment, and by algorithm if not the usual one."""
    task = preset or re.sub(r"[^\w.-]+", "-", config.environment.env)
    return task if config.algorithm == ServerConfig().algorithm else f"{task}-{config.algorithm}"


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
