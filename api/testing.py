"""Checks for authors of plug-ins, for their own tests: an AssertionError says in a sentence what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seedbed.server.training.checks import check_algorithm, check_torso

__all__ = ["check_algorithm", "check_environment", "check_torso"]


def check_environment(env: str, kwargs: Mapping[str, Any] | None = None, *, steps: int = 200) -> None:
    """What `seedbed check` looks at: spaces, seeds and random steps.

    Args:
        env: an id, an installed name, or MODULE:NAME.
        kwargs: keyword arguments of what makes it.
        steps: random ones.

    Raises:
        AssertionError: nothing can be learnt from it; the text says why.
        SeedbedError: it cannot be made.
    """
    from seedbed.common.environment_options import EnvironmentOptions
    from seedbed.common.plugins import Trust, start_directory
    from seedbed.env_client.check import check_environment as look
    from seedbed.env_client.environments.building import Care

    options = EnvironmentOptions(env=env, env_kwargs=json.dumps(dict(kwargs)) if kwargs else None)
    care = Care(trust=Trust(allow_import=True, start_directory=start_directory()))
    findings = look(options, care, steps)
    assert not findings.refusals, "; ".join(findings.refusals)


def __getattr__(name: str) -> Any:
    """Those of the server bring torch, so they are imported when they are asked for."""
    if name in __all__:
        from seedbed.server.training import checks

        return getattr(checks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
