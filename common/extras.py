"""Extras of the distribution: the command that installs one."""

from __future__ import annotations

from pathlib import Path

from seedbed.common.errors import MissingExtraError

_ROOT = Path(__file__).resolve().parent.parent


def install_command(extra: str | None = None) -> str:
    """The command that brings seedbed's dependencies, with an extra's among them; of a checkout, from the checkout."""
    brackets = "" if extra is None else f"[{extra}]"
    if (_ROOT / "pyproject.toml").exists() and (_ROOT / "common").is_dir():
        return f"pip install -e '{_ROOT}{brackets}'"
    return f"pip install 'seedbed{brackets}'"


def missing_extra(extra: str | None, reason: str) -> MissingExtraError:
    """The error that says what to install.

    Args:
        extra: None: what seedbed itself requires.
        reason: "--video needs it", "torch is missing".
    """
    what = "seedbed's own dependencies" if extra is None else f'the extra "{extra}"'
    return MissingExtraError(f"expected {what} to be installed ({install_command(extra)}): {reason}")
