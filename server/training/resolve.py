"""Configuration of a run, resolved: what was given, over presets, over an algorithm's settings, over rules.

Weakest first: the options' own defaults; rules about what the environment shows; the algorithm's values of common
options; rules about a memory that is costly; the preset's values for the task, and those for the algorithm on it; the
file of --config; the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seedbed.common.errors import ConfigError, SeedbedError, UsageError
from seedbed.common.options import explicit, flatten, from_json, omitted, options_of, override, read_json
from seedbed.common.plugins import NOTHING_TYPED, Trust, names
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.registry import ALGORITHMS, choose_algorithm, find_algorithm
from seedbed.server.networks.registry import find_core, find_torso
from seedbed.server.options.config import ServerConfig
from seedbed.server.presets.registry import preset_values, task_values
from seedbed.server.run.directory import RunFile
from seedbed.server.run.resuming import check_unchanged, unexposed
from seedbed.server.trackers.registry import find_trackers
from seedbed.server.training.command_line import PLUGINS, Given, make_parser
from seedbed.server.training.rules import rules, rules_of_cost
from seedbed.server.training.task_set import TASKS

AUTO = "auto"
"""Said of an option that rules know: as they say, whatever a preset or a file says. Of one that names a module, as
--torso, it is a name like another."""


def resolve(given: Given, spec: EnvironmentSpec) -> ServerConfig:
    """The configuration of a new run.

    Raises:
        UsageError: an option is unknown or wrong, or no algorithm can learn this environment.
        ConfigError: a value in the file of --config is wrong.
    """
    name = given.algorithm or _of_preset(given) or choose_algorithm(spec)
    start = defaults_of(name, given.trust)
    own = preset_values(given.preset, name, given.typed_env)
    flags = _flags(given, start)
    if "environment.atari_preset" in flags and not spec.preset:
        raise UsageError(f"--atari-preset is for environments of ALE/ alone, and {spec.environment} is none of them")
    said = {**own, **read_json(start, given.file), **given.from_spec, **flags, **_of_tasks(given, spec)}
    ruled = _ruled(start, spec, said.get("network.core", start.network.core), given.trust)
    values = {**ruled, **said}
    config = override(
        start, {path: ruled[path] if _asks_rules(path, value, ruled) else value for path, value in values.items()}
    )
    admit(config, spec, given.trust)
    find_trackers(config.monitoring.track, given.trust)  # told now, not when there is something to track
    return config


def resolve_again(given: Given, run: RunFile, name: str) -> ServerConfig:
    """The configuration of a run that goes on: its own, with what may differ from one start to the next.

    Args:
        given: what was said this time.
        run: how it was made.
        name: of the run, for messages.

    Raises:
        UsageError, ConfigError: as above, or the run must keep what was said otherwise.
    """
    before = config_of(run, given.trust)
    if given.algorithm not in (None, before.algorithm):
        raise ConfigError(
            f"expected the options of the run in {name}, got others (algorithm: {before.algorithm} in the run, "
            f"{given.algorithm} now): leave them out to resume it, or choose another --run-dir"
        )
    start = unexposed(before)
    values = preset_values(given.preset, before.algorithm, given.typed_env)
    values = {**values, **read_json(start, given.file), **_flags(given, start), **given.from_tasks}
    ruled = _ruled(before, run.spec, before.network.core, given.trust)  # settled when the run was made
    config = override(start, {path: value for path, value in values.items() if not _asks_rules(path, value, ruled)})
    check_unchanged(before, config, name)
    if before.tasks.environments != config.tasks.environments:
        ours, theirs = (", ".join(one.tasks.names) or one.environment.env for one in (before, config))
        raise ConfigError(
            f"expected the tasks of the run in {name}, {ours}, got {theirs}: leave them out to resume it, or choose "
            "another --run-dir"
        )
    admit(config, run.spec, given.trust)
    find_trackers(config.monitoring.track, given.trust)
    return config


def check_flags(given: Given) -> None:
    """The second pass over the command line, as far as it goes before the environment is known.

    Raises:
        UsageError: an option is unknown, or of another algorithm than the one that was named.
    """
    if given.algorithm is not None:
        _flags(given, defaults_of(given.algorithm, given.trust))
        return
    parser = make_parser(given.prog, given.description, ServerConfig())
    for word in parser.parse_known_args(given.argv)[1]:
        if word.startswith("-") and not word[1:2].isdigit() and not _owners(word.partition("=")[0]):
            parser.refuse(word)


def admit(config: ServerConfig, spec: EnvironmentSpec, trust: Trust) -> None:
    """Finds torso and core, with their modules where those may be imported: later their names suffice.

    What the algorithm's own defaults name is as trusted as its code, which has been imported.

    Raises:
        UsageError: there is none of that name, or it may not be imported.
    """
    named = {
        value
        for path, value in find_algorithm(config.algorithm, trust).defaults(spec).items()
        if path in PLUGINS and path != "environment.env"
    }
    trust = replace(trust, typed=trust.typed | named)
    find_torso(config.network.torso, trust)
    find_core(config.network.core, trust)


def config_of(run: RunFile, trust: Trust = NOTHING_TYPED) -> ServerConfig:
    """The options that a run was made with.

    Raises:
        ConfigError: one of them is unknown or wrong, or the algorithm's module may not be imported.
    """
    try:
        return from_json(defaults_of(_algorithm_of(run), trust), run.config)
    except SeedbedError as error:
        raise ConfigError(f"config.json, written by seedbed {run.version}: {error}") from error


def omitted_in(run: RunFile) -> tuple[str, ...]:
    """Dotted paths of the options that the seedbed which made a run did not have."""
    return omitted(defaults_of(_algorithm_of(run)), run.config)


def defaults_of(algorithm: str, trust: Trust = NOTHING_TYPED) -> ServerConfig:
    """The tree of all options with an algorithm's own among them, at their defaults.

    Raises:
        UsageError: there is no such algorithm.
    """
    found = find_algorithm(algorithm, trust)
    return replace(ServerConfig(), algorithm=algorithm, algorithm_options=found.Options())


def print_help(given: Given) -> None:
    """Shows all options, with those of the algorithm that was named."""
    tree = ServerConfig() if given.algorithm is None else defaults_of(given.algorithm, given.trust)
    parser = make_parser(given.prog, given.description, tree)
    parser.epilog = (
        "What the environment shows, the algorithm and the preset set other defaults than those that stand here: "
        f"{given.prog} ... --dry-run says which."
    )
    if given.algorithm is None:
        known = ", ".join(one.name for one in names("algorithms", ALGORITHMS) if not one.hidden)
        parser.epilog += f" Options of an algorithm: {given.prog} --algorithm NAME --help, NAME one of {known}"
    parser.print_help()


def _of_preset(given: Given) -> str | None:
    """The algorithm of the preset: with it its settings were found."""
    name = task_values(given.preset, given.typed_env).get("algorithm")
    return None if name is None else str(name)


def _ruled(tree: ServerConfig, spec: EnvironmentSpec, core: str, trust: Trust) -> dict[str, Any]:
    """What an environment asks for, an algorithm on it, and a memory: dotted path -> value."""
    algorithm = find_algorithm(tree.algorithm)
    found = {**rules(spec), **algorithm.defaults(spec), **(algorithm.defaults_with_memory() if core != "none" else {})}
    return {**found, **(rules_of_cost({**flatten(tree), **found}) if find_core(core, trust).costly else {})}


def _of_tasks(given: Given, spec: EnvironmentSpec) -> dict[str, Any]:
    """Options that are not said but follow from how many tasks there are."""
    if spec.num_tasks == 1:
        return {TASKS: None, "network.num_tasks": 1}
    return {**given.from_tasks, "environment.env": None, "network.num_tasks": spec.num_tasks}


def _asks_rules(path: str, value: Any, ruled: Mapping[str, Any]) -> bool:
    """Whether a value leaves an option to what was ruled."""
    return value == AUTO and path in ruled and path not in PLUGINS


def _algorithm_of(run: RunFile) -> str:
    name = run.config.get("algorithm")
    if not isinstance(name, str):
        raise ConfigError(f"algorithm: expected a text, got {name!r}")
    return name


def _flags(given: Given, tree: ServerConfig) -> dict[str, Any]:
    """The second pass over the command line, now that all options are known.

    Raises:
        UsageError: an option is wrong, unknown, or of another algorithm.
    """
    parser = make_parser(given.prog, given.description, tree)
    namespace, unknown = parser.parse_known_args(given.argv)
    if unknown:
        flag = unknown[0].partition("=")[0]
        if owners := _owners(flag):
            belongs = " and ".join(owners) if len(owners) < 3 else f"{', '.join(owners[:-1])} and {owners[-1]}"
            parser.error(f"{flag} belongs to {belongs}, and this run learns by {tree.algorithm}")
        parser.refuse(flag)
    return explicit(namespace, tree)


def _owners(flag: str) -> list[str]:
    """The built-in algorithms that have an option of their own."""
    return [
        name for name in ALGORITHMS if any(flag in leaf.flags for leaf in options_of(find_algorithm(name).Options()))
    ]
