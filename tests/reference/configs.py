"""Configurations as a command line with a preset and an algorithm makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.common.options import override
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.options.config import ServerConfig
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.resolve import resolve

VECTOR_SPEC = EnvironmentSpec(
    environment="x",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(3,)),),
    actions=(discrete("action", 2),),
)


def preset_config(preset: str, algorithm: str, changes: Mapping[str, Any] | None = None) -> ServerConfig:
    """Of an environment with a vector and two actions; `changes` by dotted path."""
    given = read_command_line(["--preset", preset, "--algorithm", algorithm], prog="test")
    return override(resolve(given, VECTOR_SPEC), changes or {})
