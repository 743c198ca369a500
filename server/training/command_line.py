"""Command line of `seedbed train` and `seedbed server`, first pass: names and common options, without torch.

What belongs to an algorithm alone is read in `training/resolve.py`, once the algorithm is known.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seedbed.common.environment_options import CareOptions, EnvironmentOptions
from seedbed.common.errors import UsageError
from seedbed.common.joint_spec import join
from seedbed.common.options import OptionParser, add_group, add_options, explicit, options_of, override, read_json
from seedbed.common.plugins import Trust, is_module, start_directory
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.replicas import ReplicaConfig
from seedbed.server.options.run import RunConfig
from seedbed.server.options.serving import ServingConfig
from seedbed.server.options.tasks import Task, to_text
from seedbed.server.presets.registry import PRESETS, fits, task_values
from seedbed.server.presets.suites import SUITES
from seedbed.server.run.directory import RunDirectory
from seedbed.server.trackers.registry import names_in
from seedbed.server.training.options_file import is_run, read_options_file
from seedbed.server.training.spec_files import options_of_specs, read_spec, tasks_of_specs
from seedbed.server.training.task_set import TASKS, TaskSet, find_tasks, joint_name, split_envs

HELP = ("-h", "--help")
TRACK = "monitoring.track"
PLUGINS: Mapping[str, str] = {
    "algorithm": "algorithms",
    "network.torso": "torsos",
    "network.core": "cores",
    "environment.env": "environments",
    TRACK: "trackers",
}
"""Options whose values may name a module: dotted path -> group of `common.plugins`."""
FIRST = (
    "environment.env",
    "algorithm",
    "network.torso",
    "optimiser.learning_rate",
    "fleet.num_envs",
    "run.max_steps",
    "environment.seed",
    "run.device",
    "run.run_dir",
)
"""Options that --help shows first, beside --preset."""
_FIRST_CLIENT = "first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """All that a user said, before the algorithm's own options are read.

    Attributes:
        argv: the command line; every word of it is either here or an option of the algorithm.
        prog, description: of the command, for messages and --help.
        wants_help: --help was among it.
        preset: a preset's name.
        file: options of the file of --config, without what belongs to one start of a run.
        flags: common options: dotted path -> value.
        trust: which modules may be imported at this start.
        spec: of --spec, in place of an environment that is built here.
        asks_client: the environment is that of the first client: --spec first.
        from_spec: options of the environment that follow from it, as if they were typed.
        tasks: of --env said several times, --suite or --tasks; None: none of them.
        from_tasks: options that follow from these, as if they were typed.
        dry_run: say what would be trained, and write nothing.
    """

    argv: tuple[str, ...]
    prog: str
    description: str
    wants_help: bool
    preset: str | None
    file: Mapping[str, Any]
    flags: Mapping[str, Any]
    trust: Trust
    spec: EnvironmentSpec | None = None
    asks_client: bool = False
    from_spec: Mapping[str, Any] = field(default_factory=dict)
    tasks: TaskSet | None = None
    from_tasks: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False

    @property
    def algorithm(self) -> str | None:
        """The algorithm that was named."""
        name = self.flags.get("algorithm") or self.file.get("algorithm")
        return str(name) if name else None

    @property
    def typed_env(self) -> str | None:
        """The environment that was named on the command line, over a preset's or a file's; several by their set."""
        return self.flags.get("environment.env") if self.tasks is None else self.tasks.name

    @property
    def environment(self) -> EnvironmentOptions:
        """Which environment; no algorithm has a say in it."""
        return self._part("environment")

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """Several tasks, a file's where none were typed; empty: there is a single environment."""
        several: tuple[Task, ...] = self._part("tasks").tasks
        return () if self.tasks is None and "environment.env" in self.flags else several

    @property
    def care(self) -> CareOptions:
        """How long it may take; no algorithm has a say in it."""
        return self._part("care")

    @property
    def serving(self) -> ServingConfig:
        """As far as it is given; an algorithm's values may be missing."""
        return self._part("serving")

    @property
    def replicas(self) -> ReplicaConfig:
        """As far as it is given; an algorithm's values may be missing."""
        return self._part("replicas")

    @property
    def run(self) -> RunConfig:
        """As far as it is given; an algorithm's values may be missing."""
        return self._part("run")

    @property
    def task_name(self) -> str:
        """The environment, or the set of several."""
        if self.tasks is not None:
            return self.tasks.name
        return joint_name(self.all_tasks) if self.all_tasks else self.environment.env_id

    @property
    def directory(self) -> RunDirectory:
        """Where the run lives: named by preset or environment, and by the algorithm if that was named."""
        if (path := self.flags.get("run.run_dir")) is not None:
            return RunDirectory(path)
        own = self.preset if fits(self.preset, self.typed_env) else None
        name = own or self.task_name
        parts = [name, *filter(None, [self.flags.get("algorithm")])]
        return RunDirectory(Path("runs") / re.sub(r"[^\w.-]+", "-", "-".join(parts)))

    def with_spec(self, spec: EnvironmentSpec) -> Given:
        """The same once the first client has said what its environment looks like.

        Raises:
            UsageError: another one was typed.
        """
        from_spec = options_of_specs([spec], self.flags)
        return replace(self, spec=spec, from_spec=from_spec, flags={**from_spec, **self.flags})

    def _part(self, name: str) -> Any:
        """One group of common options."""
        start = ServerConfig()
        file = {key: value for key, value in self.file.items() if key != "algorithm_options"}
        values = {**task_values(self.preset, self.typed_env), **read_json(start, file), **self.flags}
        prefix = f"{name}."
        own = {path.removeprefix(prefix): value for path, value in values.items() if path.startswith(prefix)}
        return override(getattr(start, name), own)


def make_parser(prog: str, description: str, tree: ServerConfig) -> OptionParser:
    """A parser of all options of a tree, what everybody needs first and the algorithm's own next, and of those that
    belong to one start of a run and are never saved.
    """
    parser = OptionParser(prog, description)
    leaves = {leaf.path: leaf for leaf in options_of(tree)}
    add_group(parser, "most used", [leaves[path] for path in FIRST], tree).add_argument(
        "--preset", metavar="NAME", help=f"settings that work: {', '.join(PRESETS)}"
    )
    own = [leaf for path, leaf in leaves.items() if path.startswith("algorithm_options.")]
    if own:
        add_group(parser, f"algorithm: {tree.algorithm}", own, tree)
    once = parser.add_argument_group("this start alone")
    once.add_argument(
        "--config", metavar="FILE", type=Path, help="options from a run's config.json, or nested alike in YAML or TOML"
    )
    once.add_argument(
        "--spec",
        metavar="FILE",
        action="append",
        help="the environment's spec, as `seedbed env --describe > FILE` wrote it, once for each of several tasks; "
        "first: that of the first client",
    )
    once.add_argument(
        "--tasks", metavar="FILE", type=Path, help="several tasks for one policy: a list in JSON, YAML or TOML"
    )
    once.add_argument("--suite", metavar="NAME", help=f"several tasks for one policy: {', '.join(SUITES)}")
    once.add_argument("--seeds", metavar="N,N,...", help="runs in turn, one for each seed, in folders of --run-dir")
    once.add_argument(
        "--learners", metavar="N", help="N learners on this machine, each with environments of its own (--num-envs)"
    )
    once.add_argument("--dry-run", action="store_true", help="say what would be trained, and write nothing")
    once.add_argument(
        "--allow-import", action="store_true", help="import modules that a file names, not only typed ones"
    )
    once.add_argument("--import-from", metavar="DIR", type=Path, help=argparse.SUPPRESS)
    add_options(parser, tree, but={*FIRST, *(leaf.path for leaf in own)})
    return parser


def read_command_line(argv: Sequence[str], *, prog: str, description: str = "") -> Given:
    """The first pass.

    Raises:
        UsageError: a common option is wrong, or a preset unknown.
        ConfigError: the file of --config is none.
    """
    words, envs = split_envs([word for word in argv if word not in HELP])
    namespace, _ = make_parser(prog, description, ServerConfig()).parse_known_args(words)
    if namespace.config is not None and namespace.preset is not None and is_run(namespace.config):
        raise UsageError(
            f"expected --config or --preset, got both: a config.json is complete without {namespace.preset!r}"
        )
    typed = explicit(namespace, ServerConfig())
    tasks = find_tasks(envs, typed.get("environment.env"), namespace.suite, namespace.tasks)
    asks_client = namespace.spec == [_FIRST_CLIENT]
    specs = [] if namespace.spec is None or asks_client else [read_spec(Path(file)) for file in namespace.spec]
    if tasks is not None and namespace.spec is not None:
        raise UsageError("expected --spec or several tasks by name, got both: give a --spec for each task")
    spec, from_spec, tasks = specs[0] if specs else None, options_of_specs(specs, typed), tasks or tasks_of_specs(specs)
    if len(specs) > 1 and tasks is not None:
        spec = join(specs, tasks.name)
    from_tasks = {} if tasks is None else {TASKS: to_text(tasks.tasks), "environment.env": None}
    return Given(
        argv=tuple(words),
        prog=prog,
        description=description,
        wants_help=any(word in HELP for word in argv),
        preset=namespace.preset,
        file={} if namespace.config is None else read_options_file(namespace.config),
        flags={**from_spec, **typed, **from_tasks},
        trust=Trust(
            typed=frozenset(filter(is_module, [*_typed_names(typed), *envs])),
            allow_import=namespace.allow_import,
            start_directory=start_directory(namespace.import_from),
        ),
        spec=spec,
        asks_client=asks_client,
        from_spec=from_spec,
        tasks=tasks,
        from_tasks=from_tasks,
        dry_run=namespace.dry_run,
    )


def _typed_names(typed: Mapping[str, Any]) -> Iterator[str]:
    """Names that were typed; one option takes several."""
    for path in PLUGINS:
        if (value := typed.get(path)) is not None:
            yield from names_in(value) if path == TRACK else (value,)
