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
from seedbed.server.config import ServerConfig
from seedbed.server.operations.run_directory import RunDirectory, check_unchanged, read_run_file
from seedbed.server.presets import PRESETS, preset_values

_DESCRIPTIONS = {
    "train": "Train with local environment clients, over gRPC on loopback. Run again to resume.",
    "server": "Train with environment clients that connect from elsewhere (seedbed env --server HOST:PORT).",
}


def main(argv: Sequence[str]) -> int:
    """Runs `argv[0]`, a verb, and returns the exit code."""
    verb, *options = argv
    match verb:
        case "train" | "server":
            config, directory = resolve(options, prog=f"seedbed {verb}", description=_DESCRIPTIONS[verb])
            from seedbed.server.app import train  # torch takes seconds: a wrong option is told before

            return train(config, directory, local=verb == "train")
        case "eval":
            from seedbed.server import evaluation

            return evaluation.main(options)
        case "plot":
            from seedbed.server.operations import plot

            return plot.main(options)
    raise UsageError(f"expected train, server, eval or plot, got {verb!r}")


def resolve(argv: Sequence[str], *, prog: str, description: str = "") -> tuple[ServerConfig, RunDirectory]:
    """The configuration that a command line means: of a new run, or of the one it resumes.

    Raises:
        UsageError: wrong options.
        ConfigError: the run in --run-dir was made with other options, or may not be resumed.
    """
    presets: list[str] = []

    def read_preset(name: str) -> Mapping[str, Any]:
        presets.append(name)
        return preset_values(name)

    layers = (
        Layer("--config", "FILE", "repeat a run: options from its config.json", _read_config),
        Layer("--preset", "NAME", f"settings that work: {', '.join(PRESETS)}", read_preset),
    )
    config = parse(ServerConfig, argv, prog=prog, description=description, layers=layers)
    name = presets[-1] if presets else re.sub(r"[^\w.-]+", "-", config.environment.env)
    directory = RunDirectory(config.run.run_dir or Path("runs") / name)
    before = directory.read()
    if before is not None:
        if config.run.resume == "never":
            raise ConfigError(f"expected no run in {directory.path} with --resume never, there is one")
        config = parse(ServerConfig, argv, prog=prog, defaults=before.config, layers=layers)
        check_unchanged(before.config, config, directory.path)
    return override(config, {"run.run_dir": directory.path}), directory


def _read_config(text: str) -> Mapping[str, Any]:
    values = flatten(read_run_file(Path(text)).config)
    return {name: value for name, value in values.items() if name not in ("run.run_dir", "run.resume")}


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
