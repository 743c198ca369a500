"""Folders of policies on a hub, for `seedbed.load("hf:OWNER/NAME")`: fetched, and refused where they name modules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from seedbed.common.cli import naming_extras
from seedbed.common.errors import ConfigError, UsageError
from seedbed.common.plugins import is_module
from seedbed.server.run.directory import CHECKPOINTS_FOLDER, CONFIG_FILE, RunFile, read_run_file

HUB_PREFIX = "hf:"

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NAMED = ("algorithm", "network.torso", "network.core")


def fetch(name: str) -> Path:
    """The folder of a policy on a hub.

    Args:
        name: "hf:owner/name", or "hf:owner/name@revision".

    Raises:
        UsageError: the name; or it names modules, which nothing from a hub may have imported.
        ConfigError: what is there is no policy of seedbed, or there is nothing.
        MissingExtraError: the extra "hub" is not installed.
    """
    repo, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    check_repo(repo)
    with naming_extras():
        from huggingface_hub import snapshot_download
    try:
        wanted = [CONFIG_FILE, f"{CHECKPOINTS_FOLDER}/*/*"]
        folder = Path(snapshot_download(repo, revision=revision or None, allow_patterns=wanted))
    except Exception as error:
        raise ConfigError(f"expected a policy at {name}, got no answer of the hub: {first_line(error)}") from error
    file = read_run_file(folder / CONFIG_FILE)
    if modules := named_modules(file):
        raise UsageError(
            f"{name} names {', '.join(modules)}: what a hub brings imports no module. If you trust it, download the "
            "folder and load that with allow_import=True"
        )
    return folder


def check_repo(repo: str) -> None:
    """Refuses what is no name of a repository.

    Raises:
        UsageError: it is not owner/name.
    """
    if not _REPO.fullmatch(repo):
        raise UsageError(f"expected owner/name on the hub, got {repo!r}")


def named_modules(file: RunFile) -> list[str]:
    """Modules that whoever loads a run would import, because its config.json names them."""
    names = []
    for path in _NAMED:
        value: Any = file.config
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        names += [value] if isinstance(value, str) and is_module(value) else []
    return names


def first_line(error: Exception) -> str:
    """An error of the hub's client, the network or the system in one line."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
