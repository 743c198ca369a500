"""Command line of `seedbed train` and `seedbed server`, first pass: names and common options, without torch.

What belongs to an algorithm alone is read in `training/resolve.py`, once the algorithm is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedbed.common.environment_options import EnvironmentOptions
from seedbed.common.errors import UsageError
from seedbed.common.options import OptionParser, add_options, explicit, override, read_json
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.run import RunConfig
from seedbed.server.options.serving import ServingConfig
from seedbed.server.presets.registry import PRESETS, task_values
from seedbed.server.run.directory import RunDirectory, read_run_file
from seedbed.server.run.resuming import is_exposure

HELP = ("-h", "--help")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """All that a user said, before the algorithm's own options are read.

    Attributes:
        argv: the command line; every word of it is either here or an option of the algorithm.
        prog, description: of the command, for messages and --help.
        wants_help: --help was among it.
        preset: a preset's name.
        file: "config" of a config.json to repeat, without what belongs to one start of a run.
        flags: common options: dotted path -> value.
    """

    argv: tuple[str, ...]
    prog: str
    description: str
    wants_help: bool
    preset: str | None
    file: Mapping[str, Any]
    flags: Mapping[str, Any]

    @property
    def algorithm(self) -> str | None:
        """The algorithm that was named."""
        name = self.flags.get("algorithm") or self.file.get("algorithm")
        return str(name) if name else None

    @property
    def environment(self) -> EnvironmentOptions:
        """Which environment; no algorithm has a say in it."""
        return self._part("environment")

    @property
    def serving(self) -> ServingConfig:
        """As far as it is given; an algorithm's values may be missing."""
        return self._part("serving")

    @property
    def run(self) -> RunConfig:
        """As far as it is given; an algorithm's values may be missing."""
        return self._part("run")

    @property
    def directory(self) -> RunDirectory:
        """Where the run lives: named by preset or environment, and by the algorithm if that was named."""
        if (path := self.flags.get("run.run_dir")) is not None:
            return RunDirectory(path)
        task = self.preset or re.sub(r"[^\w.-]+", "-", self.environment.env_id)
        named = self.flags.get("algorithm")
        return RunDirectory(Path("runs") / (f"{task}-{named}" if named else task))

    def _part(self, name: str) -> Any:
        """One group of common options."""
        start = ServerConfig()
        file = {key: value for key, value in self.file.items() if key != "algorithm_options"}
        values = {**task_values(self.preset), **read_json(start, file), **self.flags}
        prefix = f"{name}."
        own = {path.removeprefix(prefix): value for path, value in values.items() if path.startswith(prefix)}
        return override(getattr(start, name), own)


def make_parser(prog: str, description: str, tree: ServerConfig) -> OptionParser:
    """A parser of all options of a tree, and of the two that bring many values at once."""
    parser = OptionParser(prog, description)
    parser.add_argument("--config", metavar="FILE", type=Path, help="repeat a run: options from its config.json")
    parser.add_argument("--seeds", metavar="N,N,...", help="runs in turn, one for each seed, in folders of --run-dir")
    parser.add_argument("--preset", metavar="NAME", help=f"settings that work: {', '.join(PRESETS)}")
    add_options(parser, tree)
    return parser


def read_command_line(argv: Sequence[str], *, prog: str, description: str = "") -> Given:
    """The first pass.

    Raises:
        UsageError: a common option is wrong, or a preset unknown.
        ConfigError: the file of --config is none.
    """
    words = [word for word in argv if word not in HELP]
    namespace, _ = make_parser(prog, description, ServerConfig()).parse_known_args(words)
    if namespace.config is not None and namespace.preset is not None:
        raise UsageError(
            f"expected --config or --preset, got both: a config.json is complete without {namespace.preset!r}"
        )
    file = {} if namespace.config is None else _repeatable(read_run_file(namespace.config).config)
    return Given(
        argv=tuple(words),
        prog=prog,
        description=description,
        wants_help=len(words) < len(argv),
        preset=namespace.preset,
        file=file,
        flags=explicit(namespace, ServerConfig()),
    )


def _repeatable(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's options without where it lives and who may reach it."""
    kept = json.loads(json.dumps(config))
    for path in [path for path in _paths(kept) if path in ("run.run_dir", "run.resume") or is_exposure(path)]:
        *parents, name = path.split(".")
        part = kept
        for parent in parents:
            part = part[parent]
        del part[name]
    return dict(kept)


def _paths(data: Any, prefix: str = "") -> list[str]:
    if not isinstance(data, Mapping):
        return [prefix[:-1]]
    return [path for name, value in data.items() for path in _paths(value, f"{prefix}{name}.")]
