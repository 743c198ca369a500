"""Configuration of a run, resolved: what was given, over presets, over an algorithm's settings, over rules.

Weakest first: the options' own defaults; rules about what the environment shows; the algorithm's values of common
options; the preset's values for the task, and those for the algorithm on it; the file of --config; the command line.
"""

from __future__ import annotations

from dataclasses import replace

from seedbed.common.errors import ConfigError, SeedbedError
from seedbed.common.options import explicit, from_json, omitted, override, read_json
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.registry import ALGORITHMS, choose_algorithm, find_algorithm
from seedbed.server.options.config import ServerConfig
from seedbed.server.presets.registry import preset_values
from seedbed.server.run.directory import RunFile
from seedbed.server.run.resuming import check_unchanged, unexposed
from seedbed.server.training.command_line import Given, make_parser
from seedbed.server.training.rules import rules


def resolve(given: Given, spec: EnvironmentSpec) -> ServerConfig:
    """The configuration of a new run.

    Raises:
        UsageError: an option is unknown or wrong, or no algorithm can learn this environment.
        ConfigError: a value in the file of --config is wrong.
    """
    name = given.algorithm or choose_algorithm(spec)
    start = defaults_of(name)
    own = preset_values(given.preset, name, given.typed_env)
    values = {**rules(spec), **find_algorithm(name).defaults(spec), **own}
    return override(start, {**values, **read_json(start, given.file), **_flags(given, start)})


def resolve_again(given: Given, run: RunFile, name: str) -> ServerConfig:
    """The configuration of a run that goes on: its own, with what may differ from one start to the next.

    Args:
        given: what was said this time.
        run: how it was made.
        name: of the run, for messages.

    Raises:
        UsageError, ConfigError: as above, or the run must keep what was said otherwise.
    """
    before = config_of(run)
    if given.algorithm not in (None, before.algorithm):
        raise ConfigError(
            f"expected the options of the run in {name}, got others (algorithm: {before.algorithm} in the run, "
            f"{given.algorithm} now): leave them out to resume it, or choose another --run-dir"
        )
    start = unexposed(before)
    values = preset_values(given.preset, before.algorithm, given.typed_env)
    config = override(start, {**values, **read_json(start, given.file), **_flags(given, start)})
    check_unchanged(before, config, name)
    return config


def config_of(run: RunFile) -> ServerConfig:
    """The options that a run was made with.

    Raises:
        ConfigError: one of them is unknown or wrong.
    """
    try:
        return from_json(defaults_of(_algorithm_of(run)), run.config)
    except SeedbedError as error:
        raise ConfigError(f"config.json, written by seedbed {run.version}: {error}") from error


def omitted_in(run: RunFile) -> tuple[str, ...]:
    """Dotted paths of the options that the seedbed which made a run did not have."""
    return omitted(defaults_of(_algorithm_of(run)), run.config)


def defaults_of(algorithm: str) -> ServerConfig:
    """The tree of all options with an algorithm's own among them, at their defaults.

    Raises:
        UsageError: there is no such algorithm.
    """
    return replace(ServerConfig(), algorithm=algorithm, algorithm_options=find_algorithm(algorithm).Options())


def print_help(given: Given) -> None:
    """Shows all options, with those of the algorithm that was named."""
    tree = ServerConfig() if given.algorithm is None else defaults_of(given.algorithm)
    make_parser(given.prog, given.description, tree).print_help()
    if given.algorithm is None:
        print(f"\noptions of an algorithm: {given.prog} --algorithm NAME --help, NAME one of {', '.join(ALGORITHMS)}")


def _algorithm_of(run: RunFile) -> str:
    name = run.config.get("algorithm")
    if not isinstance(name, str):
        raise ConfigError(f"algorithm: expected a text, got {name!r}")
    return name


def _flags(given: Given, tree: ServerConfig) -> dict[str, object]:
    """The second pass over the command line, now that all options are known."""
    parser = make_parser(given.prog, given.description, tree)
    return explicit(parser.parse(given.argv), tree)
