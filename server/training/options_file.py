"""Options in a file, for --config: a run's config.json, or options of one's own in JSON, YAML or TOML, nested alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seedbed.common.cli import naming_extras
from seedbed.common.errors import ConfigError
from seedbed.server.run.directory import read_run_file
from seedbed.server.run.resuming import is_exposure


def read_options_file(path: Path) -> Mapping[str, Any]:
    """The options that a file gives, nested as in config.json.

    Those of a run come without where it lives and who may reach it.

    Raises:
        ConfigError: it cannot be read, or holds something else.
        MissingExtraError: it is YAML, and PyYAML is not installed.
    """
    data = _read(path)
    if "format" in data:
        return _repeatable(read_run_file(path).config)
    return data


def is_run(path: Path) -> bool:
    """Whether a file is the config.json of a run, which is complete."""
    return "format" in _read(path)


def _read(path: Path) -> Mapping[str, Any]:
    data = read_data(path, "--config")
    if not isinstance(data, Mapping):
        raise ConfigError(f"--config {path}: expected options by name, got {data!r:.100}")
    return data


def read_data(path: Path, flag: str) -> Any:
    """What a JSON, YAML or TOML file holds; `flag` is the option that names it.

    Raises:
        ConfigError: it cannot be read.
        MissingExtraError: it is YAML, and PyYAML is not installed.
    """
    readers: Mapping[str, Callable[[str], Any]] = {
        ".json": json.loads,
        ".toml": _read_toml,
        ".yaml": _read_yaml,
        ".yml": _read_yaml,
    }
    if path.suffix not in readers:
        raise ConfigError(f"{flag} {path}: expected a file that ends in {', '.join(readers)}")
    try:
        return readers[path.suffix](path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"{flag} {path}: expected a file, there is none") from error
    except OSError as error:
        raise ConfigError(f"{flag} {path}: expected a file that can be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{flag} {path}: {error}") from error


def _read_toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


def _read_yaml(text: str) -> Any:
    with naming_extras():
        import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2's numbers: PyYAML takes 1e-3 for a text."""

    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader) or {}
    except yaml.YAMLError as error:
        raise ValueError(error) from error


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
